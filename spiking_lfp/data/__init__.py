"""Data sets of images as whole tensors, from the package itself or through torchvision."""

from spiking_lfp.data.catalog import DATASET_NAMES, DatasetStatus, data_root, dataset_status
from spiking_lfp.data.datasets import ImageDataset, load_dataset

__all__ = [
    "DATASET_NAMES",
    "DatasetStatus",
    "ImageDataset",
    "data_root",
    "dataset_status",
    "load_dataset",
]
