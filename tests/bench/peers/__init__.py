"""The tools that the bench knows, in the order in which it shows them."""

from typing import Final

from tests.bench.peers.base import Peer
from tests.bench.peers.bazel import Bazel
from tests.bench.peers.bn import Bn, BnBubblewrap, BnNative, BnWatch
from tests.bench.peers.here import N2, Make, Ninja, Tup
from tests.bench.peers.nix import Nix
from tests.bench.peers.turbo import Turbo

PEERS: Final[tuple[type[Peer], ...]] = (Bn, BnWatch, Ninja, N2, Make, Tup, Turbo, Bazel, Nix)

MORE: Final[tuple[type[Peer], ...]] = (BnBubblewrap, BnNative)
"""Those that take part only when they are named."""

BY_NAME: Final = {peer.name: peer for peer in (*PEERS, *MORE)}
