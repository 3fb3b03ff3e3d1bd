"""Published models: their files as blocks of experts, and back."""

from .config import Settings, read_settings
from .superlinear import Pretrained, as_pretrained, read_superlinear, write_superlinear

__all__ = [
    "Pretrained",
    "Settings",
    "as_pretrained",
    "read_settings",
    "read_superlinear",
    "write_superlinear",
]
