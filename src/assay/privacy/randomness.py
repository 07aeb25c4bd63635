"""Private randomness: one stream cipher, keyed by 256 bits of the operating system.

Sampling and noise are a function of (key, purpose, step) alone. So a resumed run replays the very
draws of the run it continues and releases nothing new, and nobody without the key can tell them
from chance. Each kind of draw, purpose and step has a key of its own, a keyed BLAKE2b hash of the
three (RFC 7693), under which AES-256 in counter mode begins at zero: no counter is used twice.

| draw | how far from what it says |
| --- | --- |
| bytes, 64-bit words | as far as AES-256 from a random permutation |
| `bernoulli` | rate below p by less than 2^-64; exact for p that is a multiple of that |
| `integers` | exact (what would bias is drawn again) |
| `uniform` | multiples of 2^-53 in [0, 1), each equally likely |
| `gaussian` | float32, see `Stream.gaussian`: no value past 6.77, 0 with probability 2^-25 |
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from assay.privacy import keyfile
from assay.privacy.keyfile import KEY_BYTES

if TYPE_CHECKING:
    import torch

#: name of the file that holds a key
KEY_FILE = "stream.key"
#: pairs of Gaussian values drawn at once: few enough that what they need stays in a core's own
#: cache, many enough that a thread in the background seldom waits for the interpreter
_PAIRS = 32768
_F32 = np.float32
Floats32 = npt.NDArray[np.float32]


class Reader:
    """The bytes of one cipher key, one after the other.

    Args:
        key: 32 bytes, used for nothing else.
    """

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        # a fresh key for every reader, so that its counter may begin at zero
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def bytes(self, count: int) -> bytes:
        """The next `count` bytes."""
        return self._encryptor.update(bytes(count))

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """The next `count` words of 64 bits, `[count]`."""
        # a copy in the machine's own order, which the caller may write to
        out = np.empty(count, np.uint64)
        out[:] = np.frombuffer(self.bytes(8 * count), dtype="<u8")
        return out

    def below(self, high: npt.ArrayLike, count: int) -> npt.NDArray[np.uint64]:
        """Integers in 0..high-1, exactly uniform, `[count]`.

        Args:
            high: one bound, or one each `[count]`; in 1..2^63.
            count: how many.

        Raises:
            ValueError: a bound is out of range.
        """
        bounds = np.broadcast_to(np.asarray(high), (count,))
        if count and not (bounds.min() >= 1 and bounds.max() <= 2**63):
            raise ValueError(f"bounds are in 1..2^63, not {bounds.min()}..{bounds.max()}")
        bounds = bounds.astype(np.uint64)
        out = self.words(count)
        # 2^64 mod high words at the lower end would make some remainders likelier
        biased = (np.uint64(0) - bounds) % bounds
        again = np.flatnonzero(out < biased)
        while len(again):
            out[again] = self.words(len(again))
            again = again[out[again] < biased[again]]
        out %= bounds
        return out

    def gaussian(self, out: Floats32) -> None:
        """Fill a contiguous vector with independent N(0, 1) values (see `Stream.gaussian`)."""
        # Numpy and not torch: its loops are as fast, release the interpreter, never split into
        # threads, and so leave torch's threads and generator alone when run in the background.
        pairs = max(1, min(_PAIRS, (len(out) + 1) // 2))
        zeros, raw = bytes(8 * pairs), bytearray(8 * pairs + 16)
        words = np.frombuffer(raw, dtype="<u4", count=2 * pairs)
        radius, angle, part = (np.empty(pairs, _F32) for _ in range(3))
        for start in range(0, len(out), 2 * pairs):
            block = out[start : start + 2 * pairs]
            self._encryptor.update_into(zeros, raw)
            np.copyto(radius, words[:pairs], casting="unsafe")
            # half a step up: no logarithm of zero
            radius += _F32(0.5)
            radius *= _F32(2.0**-32)
            np.log(radius, out=radius)
            radius *= _F32(-2)
            np.sqrt(radius, out=radius)
            np.copyto(angle, words[pairs:].view("<i4"), casting="unsafe")
            angle *= _F32(np.pi * 2.0**-31)
            np.cos(angle, out=part)
            np.multiply(part[: len(block)], radius[: len(block)], out=block[:pairs])
            np.sin(angle, out=part)
            rest = max(0, len(block) - pairs)
            np.multiply(part[:rest], radius[:rest], out=block[pairs:])


class Stream:
    """Random numbers for one private stage, a function of (key, purpose, step) alone.

    A purpose and a step name one draw. Asking again gives the same numbers again, which is what a
    resumed run wants and what two different tensors must never get: give each a purpose of its
    own, or draw them as one.

    Args:
        key: 32 bytes.
        insecure: the key can be guessed, so nothing drawn from it is private.
        file: where the key is kept, if it is.

    Attributes:
        insecure: see above; whoever claims privacy states it as failing then.

    Raises:
        ValueError: the key has another length.
    """

    def __init__(self, key: bytes, insecure: bool = False, file: Path | None = None) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        self.insecure = insecure
        self._key: bytearray | None = bytearray(key)
        self._file = file
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None
        self._drawn: dict[tuple[str, int, int], Future[Floats32]] = {}
        self._spare: list[Floats32] = []

    @classmethod
    def open(cls, folder: Path | None, insecure_seed: int | None = None) -> Self:
        """The key kept in `folder/stream.key`, made there on first use.

        The key is 256 bits of `os.urandom`; the file has mode 0600 and is on the disk before this
        returns.

        Args:
            folder: beside the checkpoints, never inside `model/`; None keeps the key in memory
                only, so that nothing can be replayed.
            insecure_seed: derive the key from this number instead, for tests and demonstrations;
                no file is written, and the stream is `insecure`.

        Raises:
            ArtefactError: the file is torn, damaged, or others may read it.
            LoadError: it cannot be written.
        """
        if insecure_seed is not None:
            seed = str(int(insecure_seed)).encode()
            key = hashlib.blake2b(seed, digest_size=KEY_BYTES, person=b"assay insecure").digest()
            return cls(key, insecure=True)
        if folder is None:
            return cls(os.urandom(KEY_BYTES))
        path = folder / KEY_FILE
        if not os.path.lexists(path):
            keyfile.create(path, os.urandom(KEY_BYTES))
        return cls(keyfile.read(path), file=path)

    @staticmethod
    def erase(folder: Path) -> None:
        """Remove the key in a folder, if there is one, as `destroy` does with an open one.

        Raises:
            LoadError: it cannot be removed.
        """
        keyfile.erase(folder / KEY_FILE)

    def destroy(self) -> None:
        """Forget the key: the file is overwritten and removed, the copy in memory zeroed.

        Nothing can be drawn afterwards, by this stream or by a resumed run. Destroying twice is
        fine.

        Raises:
            LoadError: the file cannot be removed.
        """
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown(wait=True, cancel_futures=True)
        self._drawn.clear()
        self._spare.clear()
        if self._key is not None:
            self._key[:] = bytes(KEY_BYTES)
            self._key = None
        if self._file is not None:
            self.erase(self._file.parent)

    def reader(self, kind: str, purpose: str, step: int) -> Reader:
        """The cipher of one draw.

        Args:
            kind: what is drawn; draws of different kinds never share bytes.
            purpose: what for.
            step: in 0..2^64-1.

        Raises:
            ValueError: the step is out of range.
            RuntimeError: the key is destroyed.
        """
        if not 0 <= step < 2**64:
            raise ValueError(f"a step is in 0..2^64-1, not {step}")
        if self._key is None:
            raise RuntimeError("the key of this stream is destroyed; open another stream")
        # lengths first: no two triples are written alike
        name = b"".join(
            len(part).to_bytes(8, "little") + part
            for part in (kind.encode(), purpose.encode(), step.to_bytes(8, "little"))
        )
        keyed = hashlib.blake2b(
            name, digest_size=KEY_BYTES, key=self._key, person=b"assay stream 1"
        )
        return Reader(keyed.digest())

    def derive(self, name: str) -> Self:
        """A stream of its own for one use, a function of this one's key and the name.

        Nothing that it draws says anything of what this stream, or one of another name, draws. It
        has no file: destroying it forgets its key in memory only.
        """
        return type(self)(self.bytes(f"derive/{name}", 0, KEY_BYTES), insecure=self.insecure)

    def bytes(self, purpose: str, step: int, count: int) -> bytes:
        """`count` random bytes."""
        return self.reader("bytes", purpose, step).bytes(count)

    def uniform(self, purpose: str, step: int, n: int) -> torch.Tensor:
        """Numbers in [0, 1), multiples of 2^-53, `[n]` float64."""
        import torch

        words = self.reader("uniform", purpose, step).words(n)
        return torch.from_numpy((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)

    def bernoulli(self, purpose: str, step: int, n: int, p: float) -> torch.BoolTensor:
        """Independent coins that are true with probability p, `[n]` bool.

        A 64-bit integer is compared with p 2^64 rounded down: the rate is at most p, as an
        accountant assumes, and below it by less than 2^-64.

        Raises:
            ValueError: p is outside 0..1.
        """
        import torch

        if not 0.0 <= p <= 1.0:
            raise ValueError(f"a probability is in 0..1, not {p}")
        # exact: a power of two times a float
        threshold = int(p * 2.0**64)
        words = self.reader("bernoulli", purpose, step).words(n)
        true = np.ones(n, bool) if threshold == 2**64 else words < np.uint64(threshold)
        return torch.from_numpy(true)  # type: ignore[return-value]

    def integers(self, purpose: str, step: int, n: int, high: int) -> torch.Tensor:
        """Integers in 0..high-1, exactly uniform, `[n]` int64.

        Raises:
            ValueError: high is outside 1..2^63.
        """
        import torch

        return torch.from_numpy(
            self.reader("integers", purpose, step).below(high, n).astype(np.int64)
        )

    def choose(
        self, purpose: str, step: int, units: npt.NDArray[np.int64], most: int
    ) -> npt.NDArray[np.bool_]:
        """Which rows to keep so that no unit has more than `most`, `[N]` bool.

        Of a unit with more rows, every choice of `most` of them is equally likely, up to ties of
        64-bit numbers (a chance of n^2 2^-65 with n rows), which the earlier row wins.

        Args:
            purpose: what for.
            step: the step.
            units: the unit of each row, `[N]`.
            most: rows kept of a unit, at least 1.
        """
        if most < 1:
            raise ValueError(f"at least one row of a unit is kept, not {most}")
        order = np.lexsort((self.reader("choose", purpose, step).words(len(units)), units))
        sorted_units = units[order]
        first = np.searchsorted(sorted_units, sorted_units, side="left")
        kept = np.zeros(len(units), bool)
        kept[order] = np.arange(len(units)) - first < most
        return kept

    def gaussian(self, purpose: str, step: int, out: torch.Tensor) -> None:
        """Fill a tensor with independent N(0, 1) values, in place.

        Box and Muller (1958): a radius from 32 bits and an angle from 32 more make two values, in
        float32. The largest that can come out is sqrt(2 ln 2^33) = 6.76 (a true Gaussian passes it
        with probability 1.4e-11). Radii past 6.4 lie .03 to .17 apart, below 6 closer than .003;
        the least above 0 is 3.5e-4, and a value is 0 with probability 2^-25. The last bits of a
        value may depend on the processor and on numpy's version; the cipher's do not.

        These are noise for sums of floats, whose low bits are not protected; what is released as
        such is noised by `assay.privacy.discrete` on integers.

        Args:
            purpose: what for; different tensors need different ones.
            step: the step.
            out: of a floating type; fastest where it is float32, contiguous and on the CPU.
        """
        import torch

        flat = self._take(purpose, step, out.numel())
        with torch.no_grad():
            if flat is not None:
                out.copy_(torch.from_numpy(flat).view(out.shape))
                with self._lock:
                    self._spare = [flat]
                return
            reader = self.reader("gaussian", purpose, step)
            if out.dtype == torch.float32 and out.device.type == "cpu" and out.is_contiguous():
                reader.gaussian(out.detach().view(-1).numpy())
                return
            drawn = np.empty(out.numel(), _F32)
            reader.gaussian(drawn)
            out.copy_(torch.from_numpy(drawn).view(out.shape))

    def prefetch(self, purpose: str, step: int, size: int) -> None:
        """Begin to draw `size` Gaussian values in the background.

        `gaussian` of the same purpose, step and size takes them when they are ready, and waits
        where they are not; the numbers are those it would draw itself. Memory: 4 bytes a value,
        for each draw that is not taken yet and one that is kept for the next.

        Args:
            purpose: as `gaussian` will be asked.
            step: as `gaussian` will be asked.
            size: number of values.
        """
        key = (purpose, step, size)
        with self._lock:
            if key in self._drawn:
                return
            reader = self.reader("gaussian", purpose, step)
            spare = next((s for s in self._spare if len(s) == size), None)
            self._spare = []
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="assay-noise")
            self._drawn[key] = self._worker.submit(_draw, reader, size, spare)

    def _take(self, purpose: str, step: int, size: int) -> Floats32 | None:
        with self._lock:
            future = self._drawn.pop((purpose, step, size), None)
        return None if future is None else future.result()


def _draw(reader: Reader, size: int, spare: Floats32 | None) -> Floats32:
    # a used buffer is in memory already; a new one costs as much in page faults as the draw
    out = np.empty(size, _F32) if spare is None else spare
    reader.gaussian(out)
    return out
