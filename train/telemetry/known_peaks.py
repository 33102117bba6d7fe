"""Lists the peaks of known GPUs, which model FLOPs utilisation is stated against."""

from __future__ import annotations

# The share of a peak that plans of GPU hours assume, until a run has measured its own.
ASSUMED_MFU = 0.4

# Dense bf16 TFLOP/s with float32 accumulation, without sparsity, from makers' data sheets; the
# first name that is a word of the device's.
PEAK_BF16 = {
    "B200": 2250.0,  # NVIDIA DGX B200 data sheet
    "H200": 989.4,  # NVIDIA H200 data sheet
    "GH200": 989.4,  # NVIDIA Grace Hopper data sheet
    "H100 NVL": 835.5,  # NVIDIA H100 data sheet
    "H100 PCIe": 756.5,  # NVIDIA H100 data sheet
    "H100": 989.4,  # NVIDIA H100 data sheet, SXM5
    "H800": 989.4,  # as H100 SXM5
    "A100": 312.0,  # NVIDIA A100 data sheet
    "A800": 312.0,  # as A100
    "L40S": 362.05,  # NVIDIA L40S data sheet
    "L4": 121.0,  # NVIDIA L4 data sheet
    "A40": 149.7,  # NVIDIA A40 data sheet
    "A30": 165.0,  # NVIDIA A30 data sheet
    "A10G": 70.0,  # AWS EC2 G5 documentation
    "A10": 125.0,  # NVIDIA A10 data sheet
    "RTX 4090": 165.2,  # NVIDIA Ada architecture white paper
    "RTX 3090": 71.0,  # NVIDIA Ampere GA102 white paper
    "MI300X": 1307.4,  # AMD MI300X data sheet
    "MI250X": 383.0,  # AMD MI250X data sheet
}
