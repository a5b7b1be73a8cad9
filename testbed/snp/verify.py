#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
verify.py [OPTION]... TRANSCRIPT: what run-guest.sh has from guest and host, looked at
from outside of the machine, as a relying party would. Prints one line for each check,
and fails if one does.

The report's layout and the launch digest are those of the SEV-SNP firmware ABI; the
digest is computed here anew from the firmware file and from the state in which its
VMM starts processors, so that emulator, host and VMM have to agree with us.
"""

import argparse
import hashlib
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import uuid

POLICY = 0x30000
FAMILY_MODEL_STEPPING = 0x00A00F11  # EPYC-Milan in RDX after reset
PAGE = 4096


class Checks:
    def __init__(self):
        self.bad = 0

    def __call__(self, good, what, why=""):
        self.bad += not good
        print(f"{'ok' if good else 'not ok'} - {what}" + (f" # {why}" if why and not good else ""))
        return good


# --- the launch digest

NORMAL, VMSA, ZERO, UNMEASURED, SECRETS, CPUID = range(1, 7)


class Digest:
    """The chain of PAGE_INFO structures: each begins with the digest so far."""

    def __init__(self):
        self.value = bytes(48)

    def page(self, kind, gpa, contents=None):
        digest = hashlib.sha384(contents).digest() if contents is not None else bytes(48)
        info = struct.pack("<48s48sHBB4xQ", self.value, digest, 0x70, kind, 0, gpa)
        assert len(info) == 0x70
        self.value = hashlib.sha384(info).digest()

    def pages(self, kind, gpa, data=None, length=0):
        for at in range(0, length or len(data), PAGE):
            self.page(kind, gpa + at, None if data is None else data[at:at + PAGE])


def ovmf_table(image):
    """The entries of the table at the end of OVMF, by GUID."""
    def guid_at(at):
        return str(uuid.UUID(bytes_le=image[at:at + 16]))

    end = len(image) - 0x20
    if guid_at(end - 16) != "96b582de-1fb2-45f7-baea-a366c55a082d":
        raise ValueError("no table in the firmware")
    start = end - struct.unpack_from("<H", image, end - 18)[0]
    at, entries = end - 18, {}
    while at > start + 18:
        size = struct.unpack_from("<H", image, at - 18)[0]
        if size < 18:
            raise ValueError("a broken table in the firmware")
        entries[guid_at(at - 16)] = image[at - size:at - 18]
        at -= size
    return entries


def vmsa(cs_base, rip):
    """A processor after reset, as the VMM describes it to KVM."""
    page = bytearray(PAGE)

    def put(at, form, *values):
        struct.pack_into("<" + form, page, at, *values)

    for segment in 0x00, 0x20, 0x30, 0x40, 0x50:    # ES SS DS FS GS
        put(segment, "HHIQ", 0, 0x93, 0xffff, 0)
    put(0x10, "HHIQ", 0xf000, 0x9b, 0xffff, cs_base)
    for table, attributes in (0x60, 0), (0x70, 0x82), (0x80, 0), (0x90, 0x8b):
        put(table, "HHIQ", 0, attributes, 0xffff, 0)    # GDTR LDTR IDTR TR
    put(0x0d0, "Q", 0x1000)                     # EFER: SVME
    put(0x148, "Q", 0x40)                       # CR4: MCE
    put(0x158, "QQQQQ", 0x10, 0x400, 0xffff0ff0, 2, rip)    # CR0 DR7 DR6 RFLAGS RIP
    put(0x268, "Q", 0x0007040600070406)         # PAT
    put(0x310, "Q", FAMILY_MODEL_STEPPING)      # RDX
    put(0x3b0, "Q", 1)                          # SEV_FEATURES: SNP
    put(0x3e8, "Q", 1)                          # XCR0: x87
    put(0x408, "I", 0x1f80)                     # MXCSR
    put(0x410, "H", 0x37f)                      # x87 control word
    return bytes(page)


def launch_digest(image, vcpus):
    table = ovmf_table(image)
    digest = Digest()
    digest.pages(NORMAL, (1 << 32) - len(image), image)

    offset, = struct.unpack("<I", table["dc886566-984a-4798-a75e-5585a7bf67cc"])
    at = len(image) - offset
    magic, _, version, count = struct.unpack_from("<4sIII", image, at)
    if magic != b"ASEV" or version != 1:
        raise ValueError("unknown metadata in the firmware")
    for i in range(count):
        base, length, kind = struct.unpack_from("<III", image, at + 16 + 12 * i)
        digest.pages({2: SECRETS, 3: CPUID}.get(kind, ZERO), base, length=length)

    reset, = struct.unpack("<I", table["00f771de-1a7e-4fcb-890e-68c77e2fb44e"])
    for vcpu in range(vcpus):
        state = vmsa(reset & 0xffff0000, reset & 0xffff) if vcpu else vmsa(0xffff0000, 0xfff0)
        digest.page(VMSA, 0xFFFFFFFFF000, state)
    return digest.value


# --- the report and who signed it

def openssl(*arguments):
    result = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=False)
    return result.returncode == 0, (result.stdout + result.stderr).decode(errors="replace")


def der_integer(number):
    data = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return bytes([2, len(data)]) + data


def signature_holds(report, certificate, work):
    # r and s, little endian, 72 bytes each
    body = b"".join(der_integer(int.from_bytes(report[at:at + 72], "little"))
                    for at in (0x2a0, 0x2a0 + 72))
    (work / "signature").write_bytes(bytes([0x30, len(body)]) + body)
    (work / "signed").write_bytes(report[:0x2a0])
    good, key = openssl("x509", "-in", certificate, "-noout", "-pubkey")
    (work / "key").write_text(key)
    return good and openssl("dgst", "-sha384", "-verify", work / "key",
                            "-signature", work / "signature", work / "signed")[0]


def extension(certificate, work, last):
    """The value of AMD's extension 1.3.6.1.4.1.3704.1.<last>."""
    openssl("x509", "-in", certificate, "-outform", "DER", "-out", work / "der")
    der = (work / "der").read_bytes()
    oid = bytes.fromhex("2b060104019c7801") + bytes(last)
    at = der.find(bytes([6, len(oid)]) + oid)
    if at < 0:
        return None
    at += 2 + len(oid)
    if der[at] == 1:    # critical
        at += 3
    return der[at + 2:at + 2 + der[at + 1]] if der[at] == 4 else None


def check_signature(check, report, certs):
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        ark, ask, vcek = (certs / f"{who}.pem" for who in ("ark", "ask", "vcek"))
        good, said = openssl("verify", "-CAfile", ark, "-untrusted", ask, vcek)
        check(good, "the processor's certificate comes from the root's", said.strip())
        check(report[0x34] == 1, "the signature is of ECDSA, P-384 and SHA-384")
        check(signature_holds(report, vcek, work), "the processor has signed the report")
        # A verifier that takes anything proves nothing
        changed = bytes([report[0x50] ^ 1])
        check(not signature_holds(report[:0x50] + changed + report[0x51:], vcek, work),
              "it would not have signed a changed one")
        check(extension(vcek, work, [4]) == report[0x1a0:0x1e0],
              "the certificate is that of this chip")
        for last, at, part in (1, 0, "boot loader"), (2, 1, "TEE"), (3, 6, "SNP"), (8, 7, "microcode"):
            value = extension(vcek, work, [3, last])
            level = int.from_bytes(value[2:], "big") if value and value[0] == 2 else None
            check(level == report[0x180 + at], f"the certificate's version of the {part} is the reported one",
                  f"{level}, {report[0x180 + at]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vcpus", type=int, required=True)
    parser.add_argument("--nonce", default="")
    parser.add_argument("--image", type=pathlib.Path, help="where OVMF.fd is")
    parser.add_argument("--certs", type=pathlib.Path, help="ark.pem, ask.pem, vcek.pem")
    parser.add_argument("--host", default="6.12", help="its kernel: 6.12, or one of ours")
    parser.add_argument("--net", action="store_true", help="the guest has used a network")
    parser.add_argument("--pressure", action="store_true", help="and its memory, and converted it")
    parser.add_argument("--beside", action="store_true", help="there were guests of SEV-ES")
    parser.add_argument("--ordinary", action="store_true", help="a VM without SEV-SNP, no report")
    parser.add_argument("transcript", type=pathlib.Path)
    args = parser.parse_args()

    check = Checks()
    text = args.transcript.read_bytes().decode(errors="replace").replace("\r", "")
    lines = text.split("\n")
    guest = [line[7:] for line in lines if line.startswith("guest: ")]
    host = [line[6:] for line in lines if line.startswith("host: ")]

    def found(pattern, where):
        return next((m for line in where if (m := re.fullmatch(pattern, line))), None)

    def digests(*patterns):
        """The SHA-256 sums that follow these words, if they are all there and the same."""
        sums = [found(rf"{words} ([0-9a-f]{{64}})", where) for words, where in patterns]
        return all(sums) and len({match[1] for match in sums}) == 1

    check("begin" in guest and "end" in guest, "the guest has come to its end")
    if args.ordinary:
        check(not found(r".*SEV.*", guest), "the guest sees no SEV")
    else:
        check(found(r"Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP", guest),
              "the guest sees SEV-SNP")
    check(found(rf"cpus {args.vcpus}", guest), f"the guest has {args.vcpus} processors")
    check(all(f"cpu {n} ran" in guest for n in range(args.vcpus)), "and all of them run")
    wrote = ("disk wrote", guest)
    check(digests(wrote, ("disk read", guest)), "the guest reads from its disk what it wrote")
    check(digests(wrote, ("disk", host)), "and so does the host")
    check(found(r"rng virtio_rng\.\d+", guest), "the guest has random numbers by virtio")
    if args.net:
        sent = ("net sent", guest)
        check(digests(sent, ("net", host)), "the host receives what the guest sends by TCP")
        check(digests(sent, ("net received", guest)), "and the guest gets it back")
    if args.pressure:
        for words, when in ("filled", ""), ("filled again", ", with pages converted since"):
            size = found(rf"{words} (\d+) MiB by {args.vcpus} processors", guest)
            check(size, f"the guest finds in its memory what it wrote{when}"
                  + (f": {size[1]} MiB" if size else ""))
        check(found(r"rebound [1-9]\d* times: [23] devices", guest),
              "its devices go and come again, and so do pages that they share with the host")
        check(digests(wrote, ("disk reads still", guest)), "the disk works as before")
    bad = [line for line in guest if line.startswith("bad: ")]
    check(not bad, "the guest's kernel has nothing to report", "; ".join(bad))
    check("qemu's status 0" in host, "the VMM ended well")
    if args.ordinary:
        sys.exit(check.bad != 0)
    if args.beside:
        check(found(r"SEV-ES guests came and went, [1-9]\d* times", host),
              "all the while, guests of SEV-ES came and went")
    check("kvm unloaded" in host, "nothing keeps KVM from being unloaded")
    if args.host != "6.12":
        check("after the guests, leaked_pages 0" in host, "no page had to be given up")
        before, after = (found(rf"{when} the guests, assigned_pages (\d+)", host)
                         for when in ("before", "after"))
        check(before and after and before[1] == after[1],
              "by the host's own count, it has all pages back",
              f"{before and before[1]} assigned before, {after and after[1]} after")

    hexes = "".join(line[8:] for line in lines if re.fullmatch(r"report: [0-9a-f]{64}", line))
    report = bytes.fromhex(hexes)
    if check(len(report) == 1184, "there is an attestation report", f"{len(report)} bytes"):
        version, _, policy = struct.unpack_from("<IIQ", report)
        check(version in (2, 3), "of a known version", str(version))
        check(policy == POLICY, "its policy is the one asked for", f"{policy:#x}")
        check(report[0x30:0x34] == bytes(4), "it was asked for at VMPL 0")
        check(report[0x50:0x90].hex() == args.nonce, "it has our nonce")
        digest = launch_digest((args.image / "OVMF.fd").read_bytes(), args.vcpus)
        check(report[0x90:0xc0] == digest, "its measurement is the one we compute",
              f"{report[0x90:0xc0].hex()}, not {digest.hex()}")
        print(f"# the measurement: {digest.hex()}")
        if args.certs:
            check_signature(check, report, args.certs)
        else:
            print("# no certificates, the signature was not looked at")
    sys.exit(check.bad != 0)


main()
