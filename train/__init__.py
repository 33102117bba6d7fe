"""The pre-training program: `train/pretrain.py`, and `python -m train COMMAND`."""

from train import former_names

former_names.install()
