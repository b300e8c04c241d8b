"""Reads tensors from PyTorch's older files of weights (a row of pickles, then raw values), without PyTorch.

A pickle may name any function to be called. This reader knows four names and refuses any other.
"""

import collections
import io
import pickle

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read(content):
    """The tensors of a file.

    Args:
        content: the file's bytes, as PyTorch before 1.6 saved a dict of tensors.

    Returns:
        {name: array of its own}, float32 or int64.

    Raises:
        ValueError: it is no such file, is cut short, or names something that is not a tensor.
    """
    stream, storages = io.BytesIO(content), {}
    try:
        if pickle_of(stream, storages) != MAGIC:
            raise ValueError("it does not begin as a PyTorch file of before version 1.6")
        pickle_of(stream, storages), pickle_of(stream, storages)  # the protocol's number, sizes of types
        tensors = pickle_of(stream, storages)
        for key in pickle_of(stream, storages):
            dtype, number = storages[key]
            (stored,) = np.frombuffer(stream.read(8), "<i8")
            storages[key] = np.frombuffer(stream.read(number * dtype.itemsize), dtype)
            if not stored == number == len(storages[key]):
                raise ValueError("it is cut short")
        return {name: tensor.of(storages) for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"it cannot be read ({' '.join(str(error).split())[:200]})") from error


class Tensor(collections.namedtuple("Tensor", "key offset shape strides")):
    """A view into a storage, in its elements. The strides matter: converted weights are transposed views."""

    def of(self, storages):
        values = storages[self.key]
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or last >= len(values):
            raise ValueError("a tensor reaches beyond its values")
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides).copy()


def pickle_of(stream, storages):
    """The next pickle. `storages`: {key: (dtype, number of elements)}, to which it adds those that it names."""

    def tensor(key, offset, shape, strides, *_):
        return Tensor(key, offset, tuple(shape), tuple(strides))

    names = {("collections", "OrderedDict"): collections.OrderedDict, ("torch._utils", "_rebuild_tensor_v2"): tensor}
    names |= {("torch", name): dtype for name, dtype in DTYPES.items()}

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            if (module, name) not in names:
                raise ValueError(f"it names {module}.{name}, which is no tensor")
            return names[module, name]

        def persistent_load(self, reference):
            _, dtype, key, _, number, _ = reference
            storages[key] = dtype, number
            return key

    return Reader(stream).load()
