"""The PyTorch side of against_torch.py; needs torch, numpy and safetensors."""

import argparse
import contextlib
import functools
import os

import cases
import numpy as np
import torch
import torch_edvr
from safetensors.numpy import save_file
from safetensors.torch import load_file
from worker import Work, serve

DEFORM_CONVS = {
    "default": torch_edvr.deform_conv2d,
    "sample": torch_edvr.sample_conv2d,
}


def main():
    """Set the framework up, then serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "gpu"), required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--mode", choices=("eager", "compile"), required=True)
    parser.add_argument("--deform-conv", choices=DEFORM_CONVS, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_float32_matmul_precision(
        "highest" if arguments.precision == "float32" else "high"
    )
    torch.backends.cudnn.allow_tf32 = arguments.precision != "float32"
    torch.backends.cudnn.benchmark = True
    builder = Builder(arguments)
    is_sampled = builder.deform_conv2d is torch_edvr.sample_conv2d
    about = {
        "torch": torch.__version__,
        "deform_conv": "grid_sample" if is_sampled else "torchvision",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if builder.is_gpu else "cpu",
    }
    serve(about, builder.build, builder.device_peak_bytes)


class Builder:
    """Makes the work of a case, by the settings of the command line."""

    def __init__(self, arguments):
        self.is_gpu = arguments.device == "gpu"
        self.device = torch.device("cuda" if self.is_gpu else "cpu")
        self.is_compiled = arguments.mode == "compile"
        self.is_half = arguments.precision == "bfloat16"
        self.deform_conv2d = DEFORM_CONVS[arguments.deform_conv]

    def build(self, name, is_tiny, weights):
        """Return a case's work and its number of warm-up runs; writes weights."""
        case = cases.get(name, is_tiny=is_tiny)
        inputs = cases.draw_inputs(case)
        if case.work in ("forward", "backward", "gradient"):
            return self._deform_conv(case, inputs), case.num_warm_up
        network = torch_edvr.EDVR(**case.model, deform_conv2d=self.deform_conv2d)
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        save_file(cases.draw_parameters(shapes), weights, metadata={"format": "pt"})
        network.load_state_dict(load_file(weights))
        network.to(self.device)
        make = {
            "window": self._window,
            "stream": self._stream,
            "train_step": self._train_step,
        }[case.work]
        return make(network, inputs), case.num_warm_up

    def device_peak_bytes(self):
        """Most memory that tensors took on the GPU."""
        return torch.cuda.max_memory_allocated() if self.is_gpu else None

    def _deform_conv(self, case, inputs):
        offset = np.moveaxis(inputs["offset"], (1, 2), (4, 5))
        mask = np.moveaxis(inputs["mask"], (1, 2), (3, 4))
        n, _, _, _, height, width = offset.shape
        x, offset, kernel, bias, mask = arguments = [
            self._put(array).requires_grad_(case.work != "forward")
            for array in (
                _channels_first(inputs["x"]),
                offset.reshape(n, -1, height, width),
                np.transpose(inputs["kernel"], (3, 2, 0, 1)),
                inputs["bias"],
                mask.reshape(n, -1, height, width),
            )
        ]
        cotangent = self._put(_channels_first(inputs["cotangent"]))
        function = self._compiled(self.deform_conv2d)

        def forward():
            for argument in arguments:
                argument.grad = None
            with self._autocast():
                return function(x, offset, kernel, bias, padding=1, mask=mask)

        def backward(out):
            out.backward(cotangent.to(out.dtype))
            return out

        work = {
            "forward": Work(self._synchronized(lambda _: forward()), _image_output),
            "backward": Work(
                self._synchronized(backward),
                lambda _: _gradients(*arguments),
                self._synchronized(forward),
            ),
            "gradient": Work(
                self._synchronized(lambda _: backward(forward())),
                lambda out: _image_output(out) | _gradients(*arguments),
            ),
        }
        return work[case.work]

    def _window(self, network, inputs):
        frames = self._put(_channels_first(inputs["frames"]))
        network = self._compiled(network)

        @torch.inference_mode()
        def run(_):
            with self._autocast():
                return network(frames)

        return Work(self._synchronized(run), _image_output)

    def _stream(self, network, inputs):
        clip = torch.from_numpy(_channels_first(inputs["frames"]))
        network = self._compiled(network)
        reach = cases.NUM_FRAMES // 2
        around = torch.arange(-reach, reach + 1)

        @torch.inference_mode()
        def run(_):
            restored = []
            for center in range(len(clip)):
                window = clip[(center + around).clamp(0, len(clip) - 1)]
                with self._autocast():
                    output = network(window[None].to(self.device))
                restored.append(output[0].float().cpu())
            return torch.stack(restored)

        return Work(run, _image_output)

    def _train_step(self, network, inputs):
        lq, gt = (self._put(_channels_first(inputs[key])) for key in ("lq", "gt"))
        parameters = list(network.parameters())
        average = [parameter.detach().clone() for parameter in parameters]
        optimizer = torch.optim.Adam(
            parameters, lr=cases.LEARNING_RATE, betas=cases.BETAS, fused=True
        )
        network = self._compiled(network)
        losses = []

        def run(_):
            optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                restored = network(lq)
            difference = restored.float() - gt
            loss = torch.sqrt(difference**2 + cases.CHARBONNIER_EPS).sum()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 1 - cases.EMA_DECAY)
            losses.append(loss.item())

        return Work(self._synchronized(run), lambda _: {"losses": np.array(losses)})

    def _put(self, array):
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _compiled(self, function):
        return torch.compile(function) if self.is_compiled else function

    def _autocast(self):
        if not self.is_half:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _synchronized(self, function):
        if not self.is_gpu:
            return function

        @functools.wraps(function)
        def wait_after(*arguments):
            result = function(*arguments)
            torch.cuda.synchronize()
            return result

        return wait_after


def _channels_first(array):
    return np.ascontiguousarray(np.moveaxis(array, -1, -3))


def _image_output(out):
    return {"out": np.moveaxis(out.detach().float().cpu().numpy(), -3, -1)}


def _gradients(x, offset, kernel, bias, mask):
    """Gradients in edvr_jax's layouts."""
    n, _, height, width = x.shape
    grads = {
        "x": x.grad.permute(0, 2, 3, 1),
        "offset": offset.grad.view(n, -1, 9, 2, height, width).permute(
            0, 4, 5, 1, 2, 3
        ),
        "mask": mask.grad.view(n, -1, 9, height, width).permute(0, 3, 4, 1, 2),
        "kernel": kernel.grad.permute(2, 3, 1, 0),
        "bias": bias.grad,
    }
    return {key: value.float().cpu().numpy() for key, value in grads.items()}


if __name__ == "__main__":
    main()
