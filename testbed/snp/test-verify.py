#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
test-verify.py: does verify.py see what is wrong with a transcript? Makes a chain of
certificates, a firmware image and a transcript that are good, then spoils one thing
after the other. Prints TAP.
"""

import hashlib
import pathlib
import struct
import subprocess
import sys
import tempfile
import uuid

HERE = pathlib.Path(__file__).resolve().parent
NONCE = bytes(range(64))
CHIP = bytes(range(100, 164))
TCB = struct.pack("<BB4xBB", 3, 0, 10, 169)


def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *map(str, arguments)], input=data, check=True,
                          capture_output=True).stdout


def make_certificates(work):
    """A root, an intermediate, a processor's; the same with another root's name."""
    def der(number):
        return "02:01:%02x" % number if number < 128 else "02:02:00:%02x" % number

    oid = "1.3.6.1.4.1.3704.1"
    (work / "leaf.cnf").write_text(
        "[leaf]\n" + "".join(f"{oid}.3.{last}=DER:{der(TCB[at])}\n"
                             for last, at in ((1, 0), (2, 1), (3, 6), (8, 7))) +
        f"{oid}.4=DER:{CHIP.hex(':')}\n[ca]\nbasicConstraints=critical,CA:true\n")
    for who, issuer, section in (("ark", None, "ca"), ("ask", "ark", "ca"), ("vcek", "ask", "leaf")):
        kind = ["EC", "-pkeyopt", "ec_paramgen_curve:P-384"] if who == "vcek" else \
            ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
        openssl("genpkey", "-algorithm", *kind, "-out", work / f"{who}.key")
        request = openssl("req", "-new", "-key", work / f"{who}.key", "-subj", f"/CN={who}")
        sign = ["-CA", work / f"{issuer}.pem", "-CAkey", work / f"{issuer}.key", "-CAcreateserial"] \
            if issuer else ["-signkey", work / f"{who}.key"]
        openssl("x509", "-req", "-days", "100", "-extfile", work / "leaf.cnf",
                "-extensions", section, *sign, "-out", work / f"{who}.pem", data=request)


def make_firmware():
    """A page of code, metadata and the table."""
    def entry(guid, data):
        return data + struct.pack("<H", len(data) + 18) + uuid.UUID(guid).bytes_le

    image = bytearray(b"\x90" * 8192)
    metadata = struct.pack("<4sIII", b"ASEV", 52, 1, 3)
    for descriptor in (0x800000, 0x2000, 1), (0x802000, 0x1000, 2), (0x803000, 0x1000, 3):
        metadata += struct.pack("<III", *descriptor)
    image[4096:4096 + len(metadata)] = metadata
    entries = entry("00f771de-1a7e-4fcb-890e-68c77e2fb44e", struct.pack("<I", 0x0080b004)) + \
        entry("dc886566-984a-4798-a75e-5585a7bf67cc", struct.pack("<I", 4096))
    table = entries + struct.pack("<H", len(entries) + 18) + \
        uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d").bytes_le
    image[-0x20 - len(table):-0x20] = table
    return bytes(image)


def make_measurement(image, vcpus):
    """Written out once more, so that a slip in verify.py does not go unnoticed."""
    digest = bytes(48)

    def extend(kind, gpa, contents=None):
        nonlocal digest
        hashed = bytes(48) if contents is None else hashlib.sha384(contents).digest()
        digest = hashlib.sha384(digest + hashed + b"\x70\x00" + bytes([kind]) + bytes(5) +
                                gpa.to_bytes(8, "little")).digest()

    extend(1, 0xffffe000, image[:4096])
    extend(1, 0xfffff000, image[4096:])
    for kind, gpa in (3, 0x800000), (3, 0x801000), (5, 0x802000), (6, 0x803000):
        extend(kind, gpa)
    for vcpu in range(vcpus):
        page = bytearray(4096)
        segment = bytes.fromhex("0000930 0ffff0000 0000000000000000".replace(" ", ""))
        for at in 0, 0x20, 0x30, 0x40, 0x50:
            page[at:at + 16] = segment
        page[0x10:0x20] = bytes.fromhex("00f09b00ffff0000") + \
            (0x00800000 if vcpu else 0xffff0000).to_bytes(8, "little")
        for at, low in (0x60, 0), (0x70, 0x82), (0x80, 0), (0x90, 0x8b):
            page[at:at + 8] = bytes([0, 0, low, 0, 0xff, 0xff, 0, 0])
        for at, value in ((0xd0, 0x1000), (0x148, 0x40), (0x158, 0x10), (0x160, 0x400),
                          (0x168, 0xffff0ff0), (0x170, 2), (0x178, 0xb004 if vcpu else 0xfff0),
                          (0x268, 0x7040600070406), (0x310, 0xa00f11), (0x3b0, 1), (0x3e8, 1),
                          (0x408, 0x1f80), (0x410, 0x37f)):
            page[at:at + 8] = value.to_bytes(8, "little")
        extend(2, 0xfffffffff000, bytes(page))
    return digest


def make_report(work, measurement):
    report = bytearray(1184)
    struct.pack_into("<IIQ", report, 0, 2, 0, 0x30000)
    report[0x34] = 1
    report[0x50:0x90] = NONCE
    report[0x90:0xc0] = measurement
    report[0x180:0x188] = TCB
    report[0x1a0:0x1e0] = CHIP
    sign(work, report)
    return report


def sign(work, report):
    (work / "signed").write_bytes(report[:0x2a0])
    der = openssl("dgst", "-sha384", "-sign", work / "vcek.key", work / "signed")
    at = 2
    for place in 0x2a0, 0x2a0 + 72:
        size = der[at + 1]
        report[place:place + 72] = int.from_bytes(der[at + 2:at + 2 + size], "big").to_bytes(72, "little")
        at += 2 + size


def make_transcript(report):
    text = "a6" * 32
    return "\n".join(
        ["host: kernel 6.12.0", "guest: begin",
         "guest: Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP",
         "guest: cpus 2", "guest: cpu 0 ran", "guest: cpu 1 ran",
         f"guest: disk wrote {text}", f"guest: disk read {text}", "guest: rng virtio_rng.0",
         f"guest: net sent {text}", f"guest: net received {text}", "guest: filled 100 MiB by 2 processors",
         "guest: rebound 5 times: 3 devices", f"guest: disk reads still {text}",
         "guest: filled again 99 MiB by 2 processors"] +
        [f"report: {report[at:at + 32].hex()}" for at in range(0, len(report), 32)] +
        ["guest: end", "host: qemu's status 0", f"host: disk {text}", f"host: net {text}",
         "host: SEV-ES guests came and went, 3 times", "host: kvm unloaded",
         "host: before the guests, assigned_pages 515", "host: after the guests, leaked_pages 0",
         "host: after the guests, assigned_pages 515"])


class Tests:
    def __init__(self, work):
        self.work, self.number, self.bad = work, 0, False

    def verify(self, transcript, nonce=NONCE):
        (self.work / "transcript").write_text(transcript)
        result = subprocess.run([sys.executable, HERE / "verify.py", "--vcpus", "2", "--nonce", nonce.hex(),
                                 "--host", "ours", "--net", "--pressure", "--beside", "--image", self.work, "--certs", self.work, self.work / "transcript"],
                                capture_output=True, text=True, check=False)
        return result.returncode, result.stdout + result.stderr

    def tap(self, good, what, said):
        self.number += 1
        self.bad |= not good
        print(f"{'ok' if good else 'not ok'} {self.number} {what}")
        if not good:
            print("".join(f"# {line}\n" for line in said.splitlines()), end="")

    def refuses(self, what, complaint, *arguments):
        status, said = self.verify(*arguments)
        complaints = [line for line in said.splitlines() if line.startswith("not ok - ")]
        self.tap(status == 1 and any(complaint in line for line in complaints), what, said)


def main():
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        make_certificates(work)
        image = make_firmware()
        (work / "OVMF.fd").write_bytes(image)
        report = make_report(work, make_measurement(image, 2))
        good = make_transcript(report)
        tests = Tests(work)
        status, said = tests.verify(good)
        tests.tap(status == 0, "a good transcript is good", said)

        for what, complaint, old, new in (
                ("a guest that stops", "come to its end", "guest: end", ""),
                ("a guest without SEV-SNP", "sees SEV-SNP", " SEV-SNP", ""),
                ("a missing processor", "has 2 processors", "cpus 2", "cpus 1"),
                ("a processor that does not run", "all of them run", "guest: cpu 1 ran", ""),
                ("another thing read than written", "what it wrote", "disk read a6", "disk read a7"),
                ("another thing on the host's disk", "so does the host", "host: disk a6", "host: disk a7"),
                ("no random numbers", "random numbers", "guest: rng virtio_rng.0", ""),
                ("another thing sent than received", "the host receives", "host: net a6", "host: net a7"),
                ("another thing sent back", "gets it back", "received a6", "received a7"),
                ("memory that changes", "what it wrote", "filled 100 MiB by 2 processors", "filled"),
                ("memory that a conversion changes", "converted since", "again 99 MiB", "again"),
                ("devices that stay away", "devices go and come", "5 times", "0 times"),
                ("a disk that stays away", "works as before", "still a6", "still a7"),
                ("no guests of SEV-ES", "SEV-ES came and went", ", 3 times", ", 0 times"),
                ("a page given up", "had to be given up", "leaked_pages 0", "leaked_pages 1"),
                ("a page that stays the guest's", "own count", "after the guests, assigned_pages 515", "after the guests, assigned_pages 516"),
                ("a kernel that complains", "nothing to report", "guest: end", "guest: bad: BUG:\nguest: end"),
                ("a VMM that fails", "ended well", "status 0", "status 1"),
                ("a guest that stays", "unloaded", "host: kvm unloaded", ""),
                ("a cut report", "an attestation report", "report: 0200", "report? 0200")):
            tests.refuses(what, complaint, good.replace(old, new))
        tests.refuses("another nonce", "our nonce", good, bytes(64))

        def spoiled(at, signed, value=0xa5):
            other = bytearray(report)
            other[at] ^= value
            if signed:
                sign(work, other)
            return make_transcript(other)

        for what, complaint, at in (
                ("an unknown version", "known version", 1), ("another policy", "policy", 0xa),
                ("another privilege level", "VMPL", 0x30), ("another algorithm", "P-384", 0x34),
                ("another measurement", "measurement", 0x90), ("another chip", "this chip", 0x1a0),
                ("another boot loader", "boot loader", 0x180), ("other microcode", "microcode", 0x187)):
            tests.refuses(f"{what}, well signed", complaint, spoiled(at, True))
        for what, at in (("data", 0x150), ("r", 0x2a0), ("s", 0x2a0 + 72)):
            tests.refuses(f"a signature that does not fit: {what}", "has signed the report", spoiled(at, False))

        keep = (work / "ark.pem").read_bytes()
        openssl("req", "-x509", "-new", "-key", work / "ask.key", "-subj", "/CN=ark", "-out", work / "ark.pem")
        tests.refuses("another root of the same name", "comes from the root", good)
        (work / "ark.pem").write_bytes(keep)
        (work / "OVMF.fd").write_bytes(b"\x91" + image[1:])
        tests.refuses("other firmware", "measurement", good)
        print(f"1..{tests.number}")
        sys.exit(tests.bad)


main()
