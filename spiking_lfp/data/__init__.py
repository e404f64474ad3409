"""Image and event data sets, in memory and as sequences for training."""

from spiking_lfp.data.catalog import DATASET_NAMES, DatasetStatus, data_root, dataset_status
from spiking_lfp.data.datasets import ImageDataset, load_dataset, subset
from spiking_lfp.data.event_sets import EVENT_SOURCES, event_set_status
from spiking_lfp.data.recipes import EventRecipe
from spiking_lfp.data.samples import load_samples, window_frames
from spiking_lfp.data.splits import ArraySplit, ImageSplit, Samples, SequenceSplit, Split
from spiking_lfp.data.values import Progress

__all__ = [
    "DATASET_NAMES",
    "EVENT_SOURCES",
    "ArraySplit",
    "DatasetStatus",
    "EventRecipe",
    "ImageDataset",
    "ImageSplit",
    "Progress",
    "Samples",
    "SequenceSplit",
    "Split",
    "data_root",
    "dataset_status",
    "event_set_status",
    "load_dataset",
    "load_samples",
    "subset",
    "window_frames",
]
