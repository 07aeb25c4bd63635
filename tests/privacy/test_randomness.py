"""The stream cipher: its wiring, its key file, and that what is drawn is what it says.

Statistical tests are made with fixed keys, so they pass or fail for good. Each would fail by chance
for one key in a million (`RARE`); a test of several keys or numbers shares that among them.
"""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats

from assay.errors import ArtefactError, LoadError
from assay.privacy.randomness import KEY_FILE, Reader, Stream

RARE = 1e-6
KEY = bytes(range(32))


def normals(stream: Stream, step: int = 0, n: int = 1 << 20, purpose: str = "noise") -> np.ndarray:
    out = torch.empty(n)
    stream.gaussian(purpose, step, out)
    return out.double().numpy()


def seeded(seed: int = 1) -> Stream:
    return Stream.open(None, insecure_seed=seed)


# the cipher


def test_a_known_answer() -> None:
    """Fixed once and for all: a run begun with one version resumes with the next."""
    stream = Stream(KEY)
    assert stream.bytes("noise", 3, 16).hex() == "b02b7024c0d0b8ade957e47fff43818b"
    assert stream.integers("pick", 0, 5, 1000).tolist() == [682, 430, 824, 869, 16]


def test_the_cipher_is_aes_256_in_counter_mode_under_a_key_of_its_own() -> None:
    """The same by another way: counter blocks encrypted one by one."""
    name = b"".join(
        len(part).to_bytes(8, "little") + part
        for part in (b"bytes", "gradient é".encode(), (7).to_bytes(8, "little"))
    )
    key = hashlib.blake2b(name, digest_size=32, key=KEY, person=b"assay stream 1").digest()
    encryptor = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()
    expected = b"".join(encryptor.update(i.to_bytes(16, "big")) for i in range(40))
    assert Stream(KEY).bytes("gradient é", 7, 635) == expected[:635]


def test_no_two_draws_share_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where names run into one another, and for every kind of draw."""
    seen: list[bytes] = []
    init = Reader.__init__

    def noted(self: Reader, key: bytes) -> None:
        seen.append(bytes(key))
        init(self, key)

    monkeypatch.setattr(Reader, "__init__", noted)
    for stream in (Stream(KEY), Stream(bytes(32))):
        for purpose in ("", "a", "b", "ab", "a\0", "1", "bytes"):
            for step in (0, 1, 2, 255, 256, 2**32, 2**64 - 1):
                stream.bytes(purpose, step, 1)
                stream.uniform(purpose, step, 1)
                stream.bernoulli(purpose, step, 1, 0.5)
                stream.integers(purpose, step, 1, 2)
                stream.choose(purpose, step, np.zeros(2, np.int64), 1)
                stream.gaussian(purpose, step, torch.empty(1))
    assert len(seen) == len(set(seen)) == 2 * 7 * 7 * 6


def test_what_cannot_be_a_key_or_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 16"):
        Stream(bytes(16))
    for step in (-1, 2**64):
        with pytest.raises(ValueError, match="a step is in"):
            seeded().bytes("x", step, 1)


def test_another_process_draws_the_same(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from assay.privacy.randomness import Stream\n"
        "s = Stream.open(Path(sys.argv[1])); out = torch.empty(70_001)\n"
        "s.gaussian('noise', 5, out)\n"
        "print(s.bytes('b', 1, 9).hex(), float(out.double().sum()).hex(), "
        "s.bernoulli('q', 2, 999, .3).sum().item())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    stream = Stream.open(tmp_path)
    here = (
        stream.bytes("b", 1, 9).hex(),
        float(normals(stream, 5, 70_001).sum()).hex(),
        stream.bernoulli("q", 2, 999, 0.3).sum().item(),
    )
    assert runs[0] == runs[1] == "{} {} {}\n".format(*here)


# the key


def test_the_key_is_the_operating_systems_and_the_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    urandom = os.urandom

    def noted(count: int) -> bytes:
        asked.append(count)
        return urandom(count)

    monkeypatch.setattr(os, "urandom", noted)
    before = os.umask(0)
    try:
        stream = Stream.open(tmp_path / "deep" / "er")
    finally:
        os.umask(before)
    assert 32 in asked
    assert not stream.insecure
    (file,) = (tmp_path / "deep" / "er").iterdir()
    assert file.name == KEY_FILE
    assert file.stat().st_mode & 0o777 == 0o600


def test_it_survives_reopening_and_differs_elsewhere(tmp_path: Path) -> None:
    first = Stream.open(tmp_path / "a").bytes("x", 0, 32)
    assert Stream.open(tmp_path / "a").bytes("x", 0, 32) == first
    assert Stream.open(tmp_path / "b").bytes("x", 0, 32) != first
    assert Stream.open(None).bytes("x", 0, 32) != Stream.open(None).bytes("x", 0, 32)


def test_only_a_seed_makes_it_insecure(tmp_path: Path) -> None:
    stream = Stream.open(tmp_path, insecure_seed=0)
    assert stream.insecure
    assert not list(tmp_path.iterdir())
    assert stream.bytes("x", 0, 8) == seeded(0).bytes("x", 0, 8) != seeded(1).bytes("x", 0, 8)
    assert not Stream.open(None).insecure


def test_two_that_open_at_once_get_one_key(tmp_path: Path) -> None:
    """The first file that is there stays; nobody draws from a key that no file holds."""
    barrier, drawn = threading.Barrier(8), []

    def work() -> None:
        barrier.wait()
        drawn.append(Stream.open(tmp_path).bytes("x", 0, 8))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn == [Stream.open(tmp_path).bytes("x", 0, 8)] * 8
    assert [p.name for p in tmp_path.iterdir()] == [KEY_FILE]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: bytes(len(data)),
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
        lambda data: os.urandom(32),
    ],
)
def test_a_torn_or_damaged_key_is_refused(tmp_path: Path, damage: object) -> None:
    Stream.open(tmp_path)
    file = tmp_path / KEY_FILE
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ArtefactError, match="damaged") as caught:
        Stream.open(tmp_path)
    assert str(file) in caught.value.line()
    Stream.erase(tmp_path)
    assert not file.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    Stream.open(tmp_path)
    (tmp_path / KEY_FILE).chmod(mode)
    with pytest.raises(ArtefactError, match="read by others"):
        Stream.open(tmp_path)


def test_a_link_or_a_folder_is_no_key(tmp_path: Path) -> None:
    Stream.open(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / KEY_FILE).symlink_to(tmp_path / "a" / KEY_FILE)
    (tmp_path / "c" / KEY_FILE).mkdir(parents=True)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / KEY_FILE).symlink_to(tmp_path / "nowhere")
    for name in "bcd":
        with pytest.raises(ArtefactError, match="private key"):
            Stream.open(tmp_path / name)


def test_nothing_is_left_where_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LoadError, match="cannot write"):
        Stream.open(tmp_path / "file")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LoadError, match="No space left"):
        Stream.open(tmp_path / "a")
    assert not list((tmp_path / "a").iterdir())


def test_destroying_overwrites_and_removes(tmp_path: Path) -> None:
    stream = Stream.open(tmp_path)
    file = tmp_path / KEY_FILE
    with file.open("rb") as still_open:
        stream.prefetch("noise", 0, 100_000)
        stream.destroy()
        assert not file.exists()
        assert set(still_open.read()) == {0}
    stream.destroy()
    for draw in (
        lambda: stream.bytes("x", 0, 1),
        lambda: stream.gaussian("noise", 0, torch.empty(100_000)),
        lambda: stream.prefetch("noise", 1, 10),
    ):
        with pytest.raises(RuntimeError, match="destroyed"):
            draw()
    Stream.erase(tmp_path / "not there")


# Gaussian


def test_moments_and_tails() -> None:
    """Four moments, each within what chance allows, and the counts beyond 1 to 5 sigma."""
    values = normals(seeded(), n=1 << 22)
    n = len(values)
    allowed = stats.norm.isf(RARE / 9 / 2)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        z = (np.mean(values**power) - mean) / np.sqrt(variance / n)
        assert abs(z) < allowed, power
    for beyond in range(1, 6):
        found = int(np.sum(np.abs(values) > beyond))
        test = stats.binomtest(found, n, 2 * stats.norm.sf(beyond))
        assert test.pvalue > RARE / 9, beyond


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1001, 65_535, 65_536, 65_537, 200_001])
def test_any_size_is_filled_with_normals(size: int) -> None:
    """Many draws of each size; odd sizes and the last block too."""
    stream = seeded(size)
    steps = max(1, 20_000 // size)
    values = np.stack([normals(stream, step, size) for step in range(steps)])
    assert stats.kstest(values.ravel(), "norm").pvalue > RARE / 18
    assert stats.kstest(values[:, -1], "norm").pvalue > RARE / 18


def test_kolmogorov_and_smirnov_agree() -> None:
    assert stats.kstest(normals(seeded(2)), "norm").pvalue > RARE


def test_the_two_values_of_a_pair_do_not_depend_on_each_other() -> None:
    """Nor do their squares, which share a radius; by rank, and at every distance up to half."""
    values = normals(seeded(3), n=1 << 16)
    first, second = values[: 1 << 15], values[1 << 15 :]
    squares = np.square(values) - 1
    assert stats.kstest(np.hypot(first, second) ** 2, "chi2", args=(2,)).pvalue > RARE
    for of in (values, squares):
        power = np.abs(np.fft.rfft(of)) ** 2
        # power at a frequency is exponential; the largest of 2^15 by its own law
        largest = power[1:-1].max() / power[1:-1].mean()
        assert np.exp(-largest) * len(power) > RARE
    assert abs(np.corrcoef(np.square(first), np.square(second))[0, 1]) * math.sqrt(1 << 15) < 4.9


def test_streams_of_other_keys_purposes_and_steps_are_independent() -> None:
    """Correlations of values and of squares of all pairs, z below what RARE allows for all."""
    streams = [
        normals(seeded(seed), step, 1 << 16, purpose)
        for seed in (1, 2)
        for purpose in ("noise", "noise2")
        for step in (0, 1, 2)
    ]
    allowed = stats.norm.isf(RARE / 2 / (12 * 11))
    for of in (np.stack(streams), np.square(np.stack(streams)) - 1):
        found = np.corrcoef(of) - np.eye(12)
        assert np.abs(found).max() * np.sqrt(1 << 16) < allowed


def test_the_ends_of_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of all zeros give the largest value, of all ones zero; never infinite, never NaN."""

    class Fixed:
        def __init__(self, byte: int) -> None:
            self.byte = byte

        def update_into(self, data: bytes, out: bytearray) -> None:
            out[: len(data)] = bytes([self.byte]) * len(data)

    reader = Reader(KEY)
    out = np.empty(10, np.float32)
    monkeypatch.setattr(reader, "_encryptor", Fixed(0))
    reader.gaussian(out)
    assert out[:5] == pytest.approx(np.sqrt(2 * np.log(2.0**33)), rel=1e-6)
    assert not out[5:].any()
    monkeypatch.setattr(reader, "_encryptor", Fixed(255))
    reader.gaussian(out)
    assert not out.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_any_tensor_is_filled_in_place(dtype: torch.dtype) -> None:
    expected = torch.empty(6)
    seeded().gaussian("noise", 0, expected)
    whole = torch.full((3, 4), 9.0, dtype=dtype)
    seeded().gaussian("noise", 0, whole[:, 1:3])
    assert torch.equal(whole[:, 1:3].reshape(-1), expected.to(dtype))
    assert (whole[:, [0, 3]] == 9).all()
    parameter = torch.nn.Parameter(torch.zeros(2, 3, dtype=dtype))
    seeded().gaussian("noise", 0, parameter)
    assert torch.equal(parameter.detach().reshape(-1), expected.to(dtype))


# in the background


def test_prefetched_draws_are_the_same_to_the_bit() -> None:
    ahead, plain = seeded(), seeded()
    out, expected = torch.empty(50, 1001), torch.empty(50, 1001)
    for step in range(6):
        # the next is begun before this one is taken, as a training step does
        ahead.prefetch("noise", step + 1, out.numel())
        ahead.gaussian("noise", step, out)
        plain.gaussian("noise", step, expected)
        assert torch.equal(out, expected), step


def test_a_draw_of_another_size_or_purpose_takes_nothing_that_is_not_its_own() -> None:
    ahead = seeded()
    for _ in range(2):
        ahead.prefetch("noise", 0, 1000)
    for purpose, size in (("noise", 999), ("other", 1000), ("noise", 1000), ("noise", 1000)):
        assert np.array_equal(normals(ahead, 0, size, purpose), normals(seeded(), 0, size, purpose))


def test_the_background_leaves_torch_alone() -> None:
    """Neither its global generator nor its number of threads changes."""
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    stream = seeded()
    stream.prefetch("noise", 0, 200_000)
    stream.gaussian("noise", 0, torch.empty(200_000))
    stream.bernoulli("q", 0, 100, 0.5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_it_is_drawn_in_another_thread_and_taken_without_drawing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drew: list[str] = []
    gaussian = Reader.gaussian

    def noted(self: Reader, out: np.ndarray) -> None:
        drew.append(threading.current_thread().name)
        gaussian(self, out)

    monkeypatch.setattr(Reader, "gaussian", noted)
    stream = seeded()
    for _ in range(3):
        stream.prefetch("noise", 0, 10_000)
    stream.gaussian("noise", 0, torch.empty(10_000))
    stream.prefetch("other", 0, 10)
    stream.gaussian("other", 0, torch.empty(10))
    assert len(drew) == 2
    assert all(name.startswith("assay-noise") for name in drew)
    stream.gaussian("noise", 0, torch.empty(10_000))
    assert drew[2:] == [threading.current_thread().name]


# the others


@pytest.mark.parametrize("p", [0.0, 1e-4, 0.1, 1 / 3, 0.5, 1 - 1e-4, 1.0])
def test_the_rate_of_coins(p: float) -> None:
    coins = seeded(4).bernoulli("sample", 0, 1 << 20, p)
    assert coins.dtype == torch.bool
    assert stats.binomtest(int(coins.sum()), 1 << 20, p).pvalue > RARE / 7


def test_a_coins_word_is_compared_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """p = k 2^-64 is true for exactly the words 0..k-1; 1 for all, 0 for none."""
    edge = np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)
    monkeypatch.setattr(Reader, "words", lambda self, count: edge[:count])
    for p, true in (
        (0.0, []),
        (2.0**-64, [0]),
        (2.0**-63, [0, 1]),
        (0.5, [0, 1, 2]),
        (0.5 + 2.0**-53, [0, 1, 2, 3]),
        (1 - 2.0**-53, [0, 1, 2, 3]),
        (1.0, [0, 1, 2, 3, 4]),
        (2.0**-65, []),
    ):
        coins = seeded().bernoulli("q", 0, 5, p)
        assert coins.nonzero().ravel().tolist() == true, p
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="probability"):
            seeded().bernoulli("q", 0, 5, wrong)


def test_poisson_samples_vary_in_size_as_they_must() -> None:
    """Sizes of batches are binomial: their variance is n p (1 - p), by chi-square."""
    stream, n, p, steps = seeded(5), 2000, 0.05, 2000
    sizes = np.array([int(stream.bernoulli("sample", t, n, p).sum()) for t in range(steps)])
    statistic = np.sum((sizes - n * p) ** 2) / (n * p * (1 - p))
    tail = stats.chi2.sf(statistic, steps)
    assert RARE / 2 < tail < 1 - RARE / 2
    together = stream.bernoulli("sample", 0, n, p) & stream.bernoulli("sample", 1, n, p)
    assert stats.binomtest(int(together.sum()), n, p * p).pvalue > RARE


@pytest.mark.parametrize("high", [1, 2, 3, 10, 1000])
def test_integers_are_uniform(high: int) -> None:
    values = seeded(6).integers("pick", 0, 100_000, high).numpy()
    counts = np.bincount(values, minlength=high)
    assert len(counts) == high
    if high > 1:
        assert stats.chisquare(counts).pvalue > RARE / 4


def test_integers_that_would_bias_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^64 mod (2^63 - 25) = 50: the words 0..49 are refused, 50 and all after them are not."""
    high, batches = 2**63 - 25, iter([[49, 50, 0, 2**63], [0, 2**64 - 1], [60]])
    monkeypatch.setattr(
        Reader, "words", lambda self, count: np.array(next(batches), np.uint64)[:count]
    )
    found = Reader(KEY).below(high, 4).tolist()
    assert found == [60, 50, (2**64 - 1) % high, 2**63 % high]
    for wrong in (0, -1, 2**63 + 1):
        with pytest.raises(ValueError, match="bounds"):
            Reader(KEY).below(wrong, 1)


def test_uniforms() -> None:
    values = seeded(7).uniform("round", 0, 1 << 18).numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > RARE
    assert np.array_equal(values * 2**53, np.floor(values * 2**53))


def test_at_most_so_many_rows_of_a_unit_and_any_of_them_as_likely() -> None:
    units = np.array([3, 0, 0, 1, 0, 1, 0, 2, 0], np.int64)
    stream, times = seeded(8), np.zeros((9, 9))
    steps = 6000
    for step in range(steps):
        kept = stream.choose("rows", step, units, 2)
        assert np.bincount(units[kept], minlength=4).tolist() == [2, 2, 1, 1]
        times += np.outer(kept, kept)
    of_0 = np.flatnonzero(units == 0)
    pairs = times[np.ix_(of_0, of_0)][np.triu_indices(5, 1)]
    assert pairs.sum() == steps
    assert stats.chisquare(pairs).pvalue > RARE
    assert not stream.choose("rows", 0, units[:0], 2).size
    with pytest.raises(ValueError, match="at least one"):
        stream.choose("rows", 0, units, 0)
