"""The errors: one base, a built-in beside it, and safe to send between processes."""

from __future__ import annotations

import inspect
import pickle

import pytest

import accel
from accel import errors

BUILTINS = {
    "ModelError": ValueError,
    "InputError": ValueError,
    "DeviceError": LookupError,
    "UnsupportedError": NotImplementedError,
    "KernelError": ValueError,
    "CardError": RuntimeError,
    "ImageError": ValueError,
}


def test_every_error_is_listed_here() -> None:
    found = {
        n for n, v in inspect.getmembers(errors, inspect.isclass) if v.__module__ == errors.__name__
    }
    assert found == {*BUILTINS, "AccelError"}


@pytest.mark.parametrize("name", BUILTINS)
def test_error_derives_from_the_base_and_a_builtin(name: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, accel.AccelError) and issubclass(error, BUILTINS[name])
    assert getattr(accel, name) is error
    assert error.__doc__


@pytest.mark.parametrize("name", BUILTINS)
def test_error_pickles_with_its_message(name: str) -> None:
    error = getattr(errors, name)("what failed, what to do")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == "what failed, what to do"


def test_image_error_defaults_to_decode() -> None:
    assert errors.ImageError("broken").code == "DECODE"


@pytest.mark.parametrize("name", ["", "gpu", "cpu:x", "cpu:-1", "fpga:99999", "CPU", "cpu "])
def test_unknown_device_lists_those_that_exist(name: str) -> None:
    with pytest.raises(accel.DeviceError, match="not found; available: cpu, mkl, openvino"):
        accel.device(name)


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x08\x08", b"\xff" * 100])
def test_load_of_noise_raises_model_error(data: bytes) -> None:
    with pytest.raises(accel.ModelError):
        accel.load(data)
