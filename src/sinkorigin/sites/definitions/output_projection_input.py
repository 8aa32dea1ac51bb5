"""What W_O is applied to, ``output_projection_input`` (N, T, H·d_k): the value aggregation after any norm or gate before W_O.

In most models nothing stands between the two, and it is the value aggregation itself. A module that holds such a norm or gate beside W_O
says what it makes of its arguments by a method ``matrix_input``.
"""

from sinkorigin.sites.block import Block, Call, Lacking
from sinkorigin.sites.modules import MatrixInput, Place
from sinkorigin.sites.site import ModuleSite


def find(block: Block) -> Place | Lacking:
    """The place before W_O's matrix, in a block whose W_O was found."""
    return MatrixInput(block.output.module, "input") if isinstance(block.output, Call) else block.output


SITE = ModuleSite("output_projection_input", find)
