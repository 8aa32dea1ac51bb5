"""Forms of the learnable scale of head-wise RMSNorm."""

from typing import Literal

HeadwiseScale = Literal["per_head", "shared", "none"]
