"""Names of EDVR's parameters in PyTorch: three layouts, one table.

Checked against XPixelGroup/BasicSR basicsr/archs/edvr_arch.py at 323cc143, the
official EDVR_arch.py (xinntao/EDVR), and open-mmlab/mmagic
mmagic/models/editors/edvr/edvr_net.py (1.2.0).
"""

import dataclasses
import re
from collections.abc import Collection
from typing import Literal, get_args

from edvr_jax.config import ModelConfig
from edvr_jax.errors import InputError
from edvr_jax.models import params as params_lib

Layout = Literal["basicsr", "official", "mmagic"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

# Every convolution under its BasicSR, official and mmagic name. A group is there
# under a condition, see `_is_used`; what follows [group] is put before its names.
# {i} counts blocks; "-" means that the layout has no such part. Our own name is
# BasicSR's with each dot made a slash, or an underscore before a number or level.
# Note temporal_attn1 and temporal_attn2: the official repository numbers them the
# other way round.
_TABLE = """
[first]
conv_first               conv_first                   conv_first
[first_hr]
conv_first_1             conv_first_1                 -
conv_first_2             conv_first_2                 -
conv_first_3             conv_first_3                 -
[predeblur_lr] predeblur. pre_deblur. -
conv_first               conv_first                   -
[predeblur_hr] predeblur. pre_deblur. -
conv_first               conv_first_1                 -
stride_conv_hr1          conv_first_2                 -
stride_conv_hr2          conv_first_3                 -
[predeblur] predeblur. pre_deblur. -
stride_conv_l2           deblur_L2_conv               -
stride_conv_l3           deblur_L3_conv               -
resblock_l3.conv1        RB_L3_1.conv1                -
resblock_l3.conv2        RB_L3_1.conv2                -
resblock_l2_1.conv1      RB_L2_1.conv1                -
resblock_l2_1.conv2      RB_L2_1.conv2                -
resblock_l2_2.conv1      RB_L2_2.conv1                -
resblock_l2_2.conv2      RB_L2_2.conv2                -
resblock_l1.0.conv1      RB_L1_1.conv1                -
resblock_l1.0.conv2      RB_L1_1.conv2                -
resblock_l1.1.conv1      RB_L1_2.conv1                -
resblock_l1.1.conv2      RB_L1_2.conv2                -
resblock_l1.2.conv1      RB_L1_3.conv1                -
resblock_l1.2.conv2      RB_L1_3.conv2                -
resblock_l1.3.conv1      RB_L1_4.conv1                -
resblock_l1.3.conv2      RB_L1_4.conv2                -
resblock_l1.4.conv1      RB_L1_5.conv1                -
resblock_l1.4.conv2      RB_L1_5.conv2                -
[after_predeblur]
conv_1x1                 conv_1x1                     -
[extract] feature_extraction. feature_extraction. feature_extraction.
{i}.conv1                {i}.conv1                    {i}.conv1
{i}.conv2                {i}.conv2                    {i}.conv2
[pyramid]
conv_l2_1                fea_L2_conv1                 feat_l2_conv1.conv
conv_l2_2                fea_L2_conv2                 feat_l2_conv2.conv
conv_l3_1                fea_L3_conv1                 feat_l3_conv1.conv
conv_l3_2                fea_L3_conv2                 feat_l3_conv2.conv
[align] pcd_align. pcd_align. pcd_alignment.
offset_conv1.l3          L3_offset_conv1              offset_conv1.l3.conv
offset_conv2.l3          L3_offset_conv2              offset_conv2.l3.conv
dcn_pack.l3              L3_dcnpack                   dcn_pack.l3
dcn_pack.l3.conv_offset  L3_dcnpack.conv_offset_mask  dcn_pack.l3.conv_offset
offset_conv1.l2          L2_offset_conv1              offset_conv1.l2.conv
offset_conv2.l2          L2_offset_conv2              offset_conv2.l2.conv
offset_conv3.l2          L2_offset_conv3              offset_conv3.l2.conv
dcn_pack.l2              L2_dcnpack                   dcn_pack.l2
dcn_pack.l2.conv_offset  L2_dcnpack.conv_offset_mask  dcn_pack.l2.conv_offset
feat_conv.l2             L2_fea_conv                  feat_conv.l2.conv
offset_conv1.l1          L1_offset_conv1              offset_conv1.l1.conv
offset_conv2.l1          L1_offset_conv2              offset_conv2.l1.conv
offset_conv3.l1          L1_offset_conv3              offset_conv3.l1.conv
dcn_pack.l1              L1_dcnpack                   dcn_pack.l1
dcn_pack.l1.conv_offset  L1_dcnpack.conv_offset_mask  dcn_pack.l1.conv_offset
feat_conv.l1             L1_fea_conv                  feat_conv.l1.conv
cas_offset_conv1         cas_offset_conv1             cas_offset_conv1.conv
cas_offset_conv2         cas_offset_conv2             cas_offset_conv2.conv
cas_dcnpack              cas_dcnpack                  cas_dcnpack
cas_dcnpack.conv_offset  cas_dcnpack.conv_offset_mask cas_dcnpack.conv_offset
[tsa] fusion. tsa_fusion. fusion.
temporal_attn1           tAtt_2                       temporal_attn1
temporal_attn2           tAtt_1                       temporal_attn2
feat_fusion              fea_fusion                   feat_fusion.conv
spatial_attn1            sAtt_1                       spatial_attn1.conv
spatial_attn2            sAtt_2                       spatial_attn2.conv
spatial_attn3            sAtt_3                       spatial_attn3.conv
spatial_attn4            sAtt_4                       spatial_attn4.conv
spatial_attn5            sAtt_5                       spatial_attn5
spatial_attn_l1          sAtt_L1                      spatial_attn_l1.conv
spatial_attn_l2          sAtt_L2                      spatial_attn_l2.conv
spatial_attn_l3          sAtt_L3                      spatial_attn_l3.conv
spatial_attn_add1        sAtt_add_1                   spatial_attn_add1.conv
spatial_attn_add2        sAtt_add_2                   spatial_attn_add2
[concat]
fusion                   tsa_fusion                   fusion
[reconstruct] reconstruction. recon_trunk. reconstruction.
{i}.conv1                {i}.conv1                    {i}.conv1
{i}.conv2                {i}.conv2                    {i}.conv2
[upconv1]
upconv1                  upconv1                      upsample1.upsample_conv
[upconv2]
upconv2                  upconv2                      upsample2.upsample_conv
[last]
conv_hr                  HRconv                       conv_hr
conv_last                conv_last                    conv_last
"""


def _parse_table(text: str) -> dict[str, list[tuple[str, ...]]]:
    groups: dict[str, list[tuple[str, ...]]] = {}
    prefixes, rows = ["", "", ""], []
    for line in text.strip().splitlines():
        if line.startswith("["):
            name, *prefixes = line.split()
            prefixes = prefixes or ["", "", ""]
            rows = groups.setdefault(name.strip("[]"), [])
            continue
        names = zip(prefixes, line.split(), strict=True)
        rows.append(tuple("-" if n == "-" else p + n for p, n in names))
    return groups


_GROUPS = _parse_table(_TABLE)


def first_names() -> frozenset[str]:
    """Return what the names of the parameters begin with, in any layout."""
    rows = (row for rows in _GROUPS.values() for row in rows)
    return frozenset(name.split(".")[0] for row in rows for name in row if name != "-")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One parameter under both of its names.

    Attributes:
        torch_key: Name in the PyTorch layout.
        torch_shape: Shape there.
        path: Our flat name.
        shape: Shape here.
    """

    torch_key: str
    torch_shape: tuple[int, ...]
    path: str
    shape: tuple[int, ...]


def mapping(config: ModelConfig, layout: Layout) -> list[Entry]:
    """List every parameter of a network with its name and shape on both sides.

    Args:
        config: The network.
        layout: Names to map to.

    Returns:
        One entry per parameter, in the order of the table.

    Raises:
        InputError: if the layout has no names for a part of the network.
    """
    if layout == "mmagic" and (config.with_predeblur or config.hr_in):
        raise InputError(
            "mmagic's EDVR has neither hr_in nor PreDeblur: write these weights in "
            "the basicsr or official layout"
        )
    used = {group for group in _GROUPS if _is_used(group, config)}
    names = _names(
        layout, used, config.num_extract_blocks, config.num_reconstruct_blocks
    )
    shapes = params_lib.shapes(config)
    return [
        Entry(key, _torch_shape(shapes[path]), path, shapes[path])
        for key, path in names.items()
    ]


def _is_used(group: str, config: ModelConfig) -> bool:
    conditions = {
        "first": not config.with_predeblur and not config.hr_in,
        "first_hr": not config.with_predeblur and config.hr_in,
        "predeblur_lr": config.with_predeblur and not config.hr_in,
        "predeblur_hr": config.with_predeblur and config.hr_in,
        "predeblur": config.with_predeblur,
        "after_predeblur": config.with_predeblur,
        "tsa": config.with_tsa,
        "concat": not config.with_tsa,
        "upconv1": config.hr_in or config.scale > 1,
        "upconv2": config.hr_in or config.scale == 4,
    }
    return conditions.get(group, True)


def _names(
    layout: Layout, groups: set[str], num_extract: int, num_reconstruct: int
) -> dict[str, str]:
    """Map a layout's parameter names to ours, for some groups of the table."""
    column = LAYOUTS.index(layout)
    repeats = {"extract": num_extract, "reconstruct": num_reconstruct}
    names = {}
    for group, rows in _GROUPS.items():
        for i in range(repeats.get(group, 1) if group in groups else 0):
            for row in rows:
                if row[column] == "-":
                    continue
                module, ours = row[column].replace("{i}", str(i)), _path(row[0], i)
                names[f"{module}.weight"] = f"{ours}/kernel"
                names[f"{module}.bias"] = f"{ours}/bias"
    return names


def _path(basicsr: str, i: int) -> str:
    name = basicsr.replace("{i}", str(i))
    return re.sub(r"\.(?=l?\d)", "_", name).replace(".", "/")


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[kh, kw, in, out] -> [out, in, kh, kw]."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape


def find_layout(keys: Collection[str], *, source: str) -> tuple[Layout, dict[str, str]]:
    """Tell a layout from the names in a file.

    Args:
        keys: Names in the file.
        source: The file, for the message.

    Returns:
        The layout that most names belong to, and our flat name of each of them.

    Raises:
        InputError: if most names belong to none.
    """
    blocks = (
        _count_blocks(keys, "feature_extraction"),
        _count_blocks(keys, "reconstruction|recon_trunk"),
    )
    found = {}
    for layout in LAYOUTS:
        names = _names(layout, set(_GROUPS), *blocks)
        found[layout] = {key: names[key] for key in keys if key in names}
    layout = max(LAYOUTS, key=lambda layout: len(found[layout]))
    if 2 * len(found[layout]) < len(keys):
        raise InputError(
            f"{source}: these are no EDVR weights, only {len(found[layout])} of "
            f"{len(keys)} names are EDVR's; the first one is {next(iter(keys))}"
        )
    return layout, found[layout]


def _count_blocks(keys: Collection[str], prefix: str) -> int:
    numbers = [re.match(rf"(?:{prefix})\.(\d+)\.", key) for key in keys]
    num_blocks = 1 + max((int(number[1]) for number in numbers if number), default=-1)
    # A wild number in a damaged name must not make a wild table.
    return min(num_blocks, len(keys))
