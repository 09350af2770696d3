"""Artifacts restore what their networks do; all other files are refused in one line."""

import dataclasses
import functools
import hashlib
import json
import re
import zipfile

import jax
import jax.export
import numpy as np
import pytest
import safetensors.numpy

from edvr_jax import export
from edvr_jax.config import CascadeConfig, ModelConfig
from edvr_jax.errors import InputError
from edvr_jax.restore import tiles
from edvr_jax.restore.compiled import create_networks
from edvr_jax.restore.restorer import Restorer

MANIFEST = "manifest.json"
PROGRAM = "0/encode.bin"
PARAMS = "0/params.safetensors"


@pytest.fixture(scope="module")
def network(tiny_config, random_params):
    """Function from the name of a network to its configuration and parameters."""
    fused = dataclasses.replace(tiny_config, with_tsa=False, scale=2)
    single = dataclasses.replace(fused, num_frames=1, with_alignment=False)
    deblur = dataclasses.replace(fused, hr_in=True, scale=1, with_predeblur=True)
    configs = {
        "tsa": tiny_config,
        "single": single,
        "bfloat16": fused.with_dtype("bfloat16"),
        "cascade": CascadeConfig(stage1=single, stage2=deblur),
    }
    # So large that frames of a window in another order change the third digit.
    return lambda name: (configs[name], random_params(configs[name], scale=0.1))


@pytest.fixture(scope="module")
def artifact(network, tmp_path_factory):
    """Function from the name of a network to its artifact, which is made once."""
    folder = tmp_path_factory.mktemp("artifacts")

    @functools.cache
    def make(name):
        path = folder / f"{name}.edvr"
        here = jax.export.default_export_platform()
        export.save(path, *network(name), platforms=[here])
        return path

    return make


def restore(networks, frames, *, batch=1):
    restorer = Restorer(networks)
    size = frames.shape[1:3]
    for tiled in restorer.networks:
        config = tiled.network.config
        tiled.plan = tiles.make_plan(config, size, tile=None, overlap=0, batch=batch)
        size = tuple(config.output_scale * x for x in size)
    return list(restorer(frames))


@pytest.mark.parametrize(
    ("name", "size", "atol"),
    [
        # Measured 7e-7 on CPU, for another order of sums.
        ("tsa", (13, 18), 1e-5),
        ("cascade", (13, 18), 1e-5),
        ("single", (1, 1), 1e-5),
        # Measured 0 on CPU; a step of bfloat16 is 8e-3.
        ("bfloat16", (3, 5), 1e-2),
    ],
)
def test_restores_what_the_network_does(network, artifact, name, size, atol):
    created = create_networks(*network(name))
    loaded, _ = export.load(artifact(name))
    assert [n.config for n in loaded] == [n.config for n in created]
    frames = np.random.default_rng(1).integers(0, 256, (4, *size, 3), np.uint8)
    expected = restore(created, frames)
    for batch in (1, 2):
        restored = restore(loaded, frames, batch=batch)
        np.testing.assert_allclose(restored, expected, rtol=0, atol=atol)


@pytest.mark.parametrize(("name", "dtype"), [("tsa", "f4"), ("bfloat16", "bfloat16")])
def test_computation_type(artifact, name, dtype):
    (network,), _ = export.load(artifact(name))
    frames = jax.ShapeDtypeStruct((1, 8, 12, 3), np.float32)
    features = jax.eval_shape(network.encode, network.params, frames)
    assert {x.dtype for x in jax.tree.leaves(features)} == {jax.numpy.dtype(dtype)}
    assert {x.dtype for x in jax.tree.leaves(network.params)} == {np.dtype("f4")}


def test_same_network_gives_the_same_file(network, artifact, tmp_path):
    path = tmp_path / "again.edvr"
    config, params = network("single")
    params = jax.tree.map(np.float64, params)
    # On another line than the first, which programs remember by default.
    export.save(path, config, params, platforms=[jax.export.default_export_platform()])
    assert path.read_bytes() == artifact("single").read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        assert not any(b".py" in archive.read(name) for name in archive.namelist())


def test_digest_is_that_of_the_file(network, artifact, tmp_path):
    _, digest = export.load(artifact("single"))
    assert digest == hashlib.sha256(artifact("single").read_bytes()).hexdigest()
    # The same parameters in another precision are another file.
    config, params = network("single")
    here = jax.export.default_export_platform()
    path = tmp_path / "other.edvr"
    export.save(path, config.with_dtype("bfloat16"), params, platforms=[here])
    assert export.load(path)[1] != digest


def test_parameters_that_do_not_fit_are_not_saved(network, tmp_path):
    path = tmp_path / "out.edvr"
    config, params = network("single")
    bias = params["conv_first"].pop("bias")
    with pytest.raises(InputError, match=r"params: .* 1 missing: conv_first/bias"):
        export.save(path, config, params)
    params["conv_first"]["bias"] = bias[:3]
    with pytest.raises(InputError, match="conv_first/bias is 3 instead of 8"):
        export.save(path, config, params)
    config, _ = network("cascade")
    with pytest.raises(InputError, match="missing: stage1/"):
        export.save(path, config, params)
    assert not path.exists()


def test_other_platform_is_refused(network, tmp_path):
    path = tmp_path / "net.edvr"
    here = jax.export.default_export_platform()
    other = "cpu" if here == "tpu" else "tpu"
    export.save(path, *network("single"), platforms=[other])
    message = f"net.edvr: exported for {other}, but this machine runs {here}"
    with pytest.raises(InputError, match=message):
        export.load(path)


@pytest.fixture
def rewrite(artifact, tmp_path):
    """Function that copies an artifact and changes entries of it; None leaves one out.

    An entry is given as its new bytes, or a function from the old ones to them.
    """

    def write(changes):
        path = tmp_path / "net.edvr"
        with (
            zipfile.ZipFile(artifact("single")) as old,
            zipfile.ZipFile(path, "w") as new,
        ):
            for name in old.namelist():
                change = changes.get(name, old.read(name))
                data = change(old.read(name)) if callable(change) else change
                if data is not None:
                    new.writestr(name, data)
        return path

    return write


def in_manifest(**changes):
    return lambda data: json.dumps({**json.loads(data), **changes})


def of_another_version(**changes):
    versions = {"edvr_jax": "9.9", "jax": "8.8", "jaxlib": "8.8"}
    return in_manifest(versions=versions, **changes)


def in_config(**changes):
    return [{**dataclasses.asdict(ModelConfig()), **changes}]


def without_program(data):
    """A program of the right form, whose StableHLO is none."""
    program = jax.export.deserialize(bytearray(data))
    return dataclasses.replace(program, mlir_module_serialized=b"no").serialize()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({MANIFEST: of_another_version(format=2)}, "format 2 instead of 1"),
        (
            {MANIFEST: of_another_version(configs=in_config(with_magic=True))},
            "ModelConfig has no field with_magic",
        ),
        (
            {MANIFEST: of_another_version(), PROGRAM: without_program},
            "INVALID_ARGUMENT: Failed to deserialize StableHLO",
        ),
        ({MANIFEST: of_another_version(), PROGRAM: b"no"}, "unpack_from requires"),
    ],
)
def test_other_versions_are_named(rewrite, changes, reason):
    path = rewrite(changes)
    with pytest.raises(InputError) as caught:
        export.load(path)
    here = f"jax {jax.__version__}"
    assert re.fullmatch(
        rf"{re.escape(str(path))}: edvr_jax .*, {here}, jaxlib .* cannot run it "
        rf"\({reason}.*\); it was made by edvr_jax 9.9, jax 8.8, jaxlib 8.8; "
        r"export it again",
        str(caught.value),
    )


def test_artifacts_of_other_versions_run_if_they_can(rewrite):
    networks, _ = export.load(rewrite({MANIFEST: of_another_version()}))
    assert len(networks) == 1


def check_damaged(path):
    with pytest.raises(InputError) as caught:
        export.load(path)
    assert str(caught.value) == (
        f"{path}: not an artifact of edvr export, or damaged; export it again"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {MANIFEST: None},
        {MANIFEST: b"{"},
        {MANIFEST: b"\xff\xfe{"},
        {MANIFEST: b"[]"},
        {MANIFEST: b"{}"},
        {MANIFEST: in_manifest(configs=[])},
        {MANIFEST: in_manifest(configs=[3])},
        {MANIFEST: in_manifest(configs=in_config(num_features="8"))},
        {MANIFEST: in_manifest(versions=None, format=2)},
        {PROGRAM: None},
        {PROGRAM: b""},
        {PROGRAM: bytes(3000)},
        {PROGRAM: b"garbage" * 1000},
        {PROGRAM: without_program},
        {PARAMS: None},
        {PARAMS: b""},
        {PARAMS: b"garbage" * 1000},
        {PARAMS: lambda data: data[:-1]},
    ],
)
def test_damaged_parts_are_refused(rewrite, changes):
    check_damaged(rewrite(changes))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"PK no",
        lambda data: data[: len(data) // 2],
        lambda data: data[len(data) // 2 :],
        lambda data: data[:300] + bytes(8) + data[308:],
        lambda data: data[:-5000] + bytes(8) + data[-4992:],
    ],
)
def test_damaged_files_are_refused(artifact, tmp_path, damage):
    path = tmp_path / "net.edvr"
    path.write_bytes(damage(artifact("single").read_bytes()))
    check_damaged(path)


def test_parameters_of_another_network_are_refused(rewrite):
    def drop(data):
        flat = safetensors.numpy.load(data)
        del flat["conv_first/bias"]
        return safetensors.numpy.save(flat)

    with pytest.raises(InputError, match=r"net\.edvr: .* 1 missing: conv_first/bias"):
        export.load(rewrite({PARAMS: drop}))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"no\.edvr: cannot be read: No such file"):
        export.load(tmp_path / "no.edvr")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        export.load(tmp_path)
