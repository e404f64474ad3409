"""Readers of the file formats of recordings, one function each: from a file to columns of integers, block by block.

Every function raises DataError with half a sentence, to which `read_events` adds the file. Formats of fixed-size
records are decoded here, because the readers of other packages ignore truncated records and impossible flags, return
nothing at all for a truncated file, or hang on a truncated header. AEDAT 4, MATLAB files and bags are read by the
packages aedat, scipy and rosbags, HDF5 by h5py; whatever could make them abort the process is checked first.
"""

from collections.abc import Callable, Iterator

from spiking_lfp.events._formats import aedat, prophesee, rosbag, simple, tables
from spiking_lfp.events._formats.common import CHIPS, Columns, Hints, Reading, TimeUnit

__all__ = ["CHIPS", "SUFFIXES", "Columns", "Hints", "Reading", "TimeUnit"]

SUFFIXES: dict[str, Callable[[Reading], Iterator[Columns]]] = {
    ".bin": simple.nmnist,
    ".bs2": simple.bs2,
    ".aedat": aedat.aedat,
    ".aedat2": aedat.aedat,
    ".aedat4": aedat.aedat,
    ".dat": prophesee.dat,
    ".raw": prophesee.raw,
    ".npy": tables.npy,
    ".npz": tables.npz,
    ".h5": tables.h5,
    ".hdf5": tables.h5,
    ".txt": tables.text,
    ".csv": tables.text,
    ".es": simple.es,
    ".mat": simple.mat,
    ".bag": rosbag.bag,
}
