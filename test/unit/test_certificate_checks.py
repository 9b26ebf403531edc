"""Users' own certificates: each good kind passes, each bad one is named, and OpenSSL agrees."""

import datetime
import subprocess

import etcd_ha_common_certificate_checks as checks
import etcd_ha_host_tls_files as tls_files
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from tls_corpus import (
    CLIENT,
    DAY,
    EC,
    HOUR,
    NOW,
    RSA,
    SERVER,
    Authority,
    by_openssl,
    key,
    key_pem,
    pem,
    usage,
)

BOTH = ("serverAuth", "clientAuth")
SAN = ("IP:10.0.0.1", "IP:127.0.0.1", "DNS:etcd.example.com")
NEED = checks.Need(BOTH, SAN)
CERTIFICATE, KEY, CA = checks.CERTIFICATE, checks.KEY, checks.CA


PSS_KEY = "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048"
EXPLICIT = f"{EC} -pkeyopt ec_param_enc:explicit"
PSS = "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen"


def kind(own=EC, authority=EC, sign=""):
    """A pair with keys and a signature of these kinds; each was tried against Go's crypto/tls."""
    return lambda: by_openssl(SAN, own, authority, sign)


def pair(ca=None, own=None, form="pkcs8", behind=(), trusted=None, **leaf):
    """(certificate, key, CAs) as PEM texts; a good pair but for what is asked for."""
    ca, own = ca or Authority(), own or key()
    signed = ca.leaf(own, **{"san": SAN, **leaf})
    roots = [ca.certificate] if trusted is None else trusted
    return pem(signed, *behind), key_pem(own, form), pem(*roots)


def changed(part, change, **more):
    """A good pair with one of its files altered."""
    files = list(pair(**more))
    files[part] = change(files[part])
    return tuple(files)


def two_levels(**more):
    """A root, a CA below it, and a pair of that one."""
    root = Authority("root")
    middle = Authority("middle", above=root, **more)
    return root, middle


# Good ones, in the forms of those who make them


def with_text():
    """With the human-readable text that ``openssl ca`` and easy-rsa put before each block."""
    words = b"Certificate:\n    Data:\n        Version: 3 (0x2)\n-- no block, just dashes\n"
    return changed(0, lambda text: words + text, own=key("rsa2048"))


def by_cfssl():
    ca = Authority(kind="p256", pathlen=2)
    return pair(ca, key("p256"), "traditional", ends=NOW + 365 * DAY)


def by_step():
    root, middle = two_levels(pathlen=0)
    leaf = {"usage": usage(digital_signature=True), "constraints": False, "ends": NOW + DAY}
    return pair(middle, behind=[middle.certificate], trusted=[root.certificate], **leaf)


def by_vault():
    root = Authority("root", "rsa2048")
    middle = Authority("middle", "rsa3072", above=root)
    bits = usage(digital_signature=True, key_encipherment=True, key_agreement=True)
    trusted = [middle.certificate, root.certificate]
    leaf = {"usage": bits, "constraints": False, "trusted": trusted}
    return pair(middle, key("rsa2048"), "traditional", **leaf)


def by_kubeadm():
    bits = usage(digital_signature=True, key_encipherment=True, key_cert_sign=True)
    return pair(Authority("etcd-ca", "rsa2048", usage=bits), key("rsa2048"), "traditional")


def with_the_root_behind():
    root, middle = two_levels()
    behind = [middle.certificate, root.certificate]
    return pair(middle, behind=behind, trusted=[root.certificate])


def with_parameters_before_the_key():
    """As ``openssl ecparam -genkey`` writes it."""
    block = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    return changed(1, lambda text: block + text, form="traditional")


def of_two_trusted():
    """A file of CAs in which an older one stands beside the present one, and has expired."""
    ca, old = Authority(), Authority("older", begins=NOW - 9 * DAY, ends=NOW - DAY)
    return pair(ca, trusted=[old.certificate, ca.certificate])


GOOD = {
    "openssl": with_text,
    "cfssl": by_cfssl,
    "step-ca": by_step,
    "Vault": by_vault,
    "kubeadm": by_kubeadm,
    "RSA 3072 signed by P-384": lambda: pair(Authority(kind="p384"), key("rsa3072")),
    "P-521": lambda: pair(Authority(kind="p521"), key("p521")),
    "Ed25519": lambda: pair(Authority(kind="ed25519"), key("ed25519")),
    "RSA with the exponent 3": kind(f"{RSA} -pkeyopt rsa_keygen_pubexp:3"),
    "a CA of Ed25519": kind(authority="-algorithm ED25519"),
    "RSA-PSS signature": kind(authority=RSA, sign=f"{PSS}:32"),
    "ECDSA with SHA-512": kind(sign="-sha512"),
    "no key usages at all": lambda: pair(usage=None, uses=()),
    "a wildcard": lambda: pair(san=(*SAN[:2], "DNS:*.example.com")),
    "no subject": lambda: pair(subject=""),
    "the root comes along": with_the_root_behind,
    "EC parameters": with_parameters_before_the_key,
    "two CAs": of_two_trusted,
    "lines end with CR LF": lambda: changed(0, lambda text: text.replace(b"\n", b"\r\n")),
    "no newline at the end": lambda: changed(0, lambda text: text.rstrip()),
}


# Bad ones: (what, files, which of them, what is said)


def expired_middle():
    root, middle = two_levels(begins=NOW - 9 * DAY, ends=NOW - HOUR)
    return pair(middle, behind=[middle.certificate], trusted=[root.certificate])


def wrong_order():
    root, middle = two_levels()
    own = key()
    leaf = middle.leaf(own, san=SAN)
    return pem(middle.certificate, leaf), key_pem(own), pem(root.certificate)


def wrong_order_behind():
    root = Authority("root")
    upper = Authority("upper", above=root)
    lower = Authority("lower", above=upper)
    behind = [upper.certificate, lower.certificate]
    return pair(lower, behind=behind, trusted=[root.certificate])


def missing_intermediate():
    root, middle = two_levels()
    return pair(middle, trusted=[root.certificate])


def strange_behind():
    return pair(behind=[Authority("stranger").certificate])


def root_is_missing():
    _, middle = two_levels()
    return pair(middle, trusted=[middle.certificate])


def of_another_ca():
    return pair(Authority(), trusted=[Authority().certificate])


def of_an_unknown_root():
    root, middle = two_levels()
    behind = [middle.certificate, root.certificate]
    return pair(middle, behind=behind, trusted=[Authority("theirs").certificate])


def too_deep():
    root = Authority("root", pathlen=0)
    middle = Authority("middle", above=root)
    return pair(middle, behind=[middle.certificate], trusted=[root.certificate])


def other_key_id():
    aki = x509.AuthorityKeyIdentifier(b"another", None, None)
    return pair(aki=aki)


def server_only_middle():
    root, middle = two_levels(uses=(SERVER,))
    return pair(middle, behind=[middle.certificate], trusted=[root.certificate])


def encrypted():
    own = key()
    files = pair(own=own)
    return files[0], key_pem(own, password=b"x"), files[2]


def encrypted_traditional():
    own = key("rsa2048")
    files = pair(own=own)
    return files[0], key_pem(own, "traditional", b"x"), files[2]


def der(part):
    files = list(pair())
    if part == 1:
        loaded = serialization.load_pem_private_key(files[1], None)
        forms = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        files[1] = loaded.private_bytes(serialization.Encoding.DER, *forms)
    else:
        loaded = x509.load_pem_x509_certificate(files[part])
        files[part] = loaded.public_bytes(serialization.Encoding.DER)
    return tuple(files)


def with_key(part):
    files = list(pair())
    files[part] = files[part] + files[1]
    return tuple(files)


def lax(**more):
    return lambda: pair(Authority(**more))


def cut(text):
    return text[: len(text) // 2]


def relabelled(text):
    return text.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE")


BAD = [
    ("expired", lambda: pair(begins=NOW - 9 * DAY, ends=NOW - HOUR), CERTIFICATE, "has expired"),
    ("in the future", lambda: pair(begins=NOW + HOUR), CERTIFICATE, "is not valid yet"),
    (
        "no SAN",
        lambda: pair(san=()),
        CERTIFICATE,
        "lacks the alternative names IP:10.0.0.1, IP:127",
    ),
    ("one SAN short", lambda: pair(san=SAN[1:]), CERTIFICATE, "alternative names IP:10.0.0.1 ("),
    ("no DNS name", lambda: pair(san=SAN[:2]), CERTIFICATE, "names DNS:etcd.example.com"),
    (
        "addresses as DNS names",
        lambda: pair(san=("DNS:10.0.0.1", *SAN[1:])),
        CERTIFICATE,
        "it has addresses as DNS names",
    ),
    (
        "a wildcard two labels deep",
        lambda: pair(san=(*SAN[:2], "DNS:*.com")),
        CERTIFICATE,
        "DNS:etcd.example.com",
    ),
    ("only a server's", lambda: pair(uses=(SERVER,)), CERTIFICATE, "usage clientAuth; it must"),
    ("only a client's", lambda: pair(uses=(CLIENT,)), CERTIFICATE, "usage serverAuth; it must"),
    (
        "no digitalSignature",
        lambda: pair(usage=usage(key_encipherment=True)),
        CERTIFICATE,
        "digitalS",
    ),
    (
        "signs others, and is no CA",
        lambda: pair(usage=usage(digital_signature=True, key_cert_sign=True)),
        CERTIFICATE,
        "keyCertSign, but is no CA",
    ),
    ("another key", lambda: changed(1, lambda _: key_pem(key())), KEY, "does not match"),
    ("encrypted", encrypted, KEY, "is encrypted"),
    ("encrypted, PKCS 1", encrypted_traditional, KEY, "is encrypted"),
    ("two keys", lambda: changed(1, lambda text: text + key_pem(key())), KEY, "2 private keys"),
    ("no key", lambda: changed(1, lambda _: pem(Authority().certificate)), KEY, "no private key"),
    ("DER certificate", lambda: der(0), CERTIFICATE, "is DER"),
    ("DER key", lambda: der(1), KEY, "is DER"),
    ("DER CA", lambda: der(2), CA, "is DER"),
    ("empty", lambda: changed(0, lambda _: b"\n"), CERTIFICATE, "is empty"),
    ("junk", lambda: changed(0, lambda _: b"hello"), CERTIFICATE, "is something else"),
    ("cut off", lambda: changed(0, cut), CERTIFICATE, "is cut off"),
    ("cut off CA", lambda: changed(2, cut), CA, "is cut off"),
    (
        "junk inside",
        lambda: changed(0, lambda text: text.replace(b"\nMI", b"\n!junk!\nMI", 1)),
        CERTIFICATE,
        "is damaged",
    ),
    (
        "junk before the block",
        lambda: changed(0, lambda text: b"x" + text),
        CERTIFICATE,
        "on lines of its own",
    ),
    ("a BOM", lambda: changed(0, lambda t: b"\xef\xbb\xbf" + t), CERTIFICATE, "byte order mark"),
    (
        "UTF-16",
        lambda: changed(0, lambda text: text.decode().encode("utf-16")),
        CERTIFICATE,
        "byte order mark",
    ),
    ("another label", lambda: changed(0, relabelled), CERTIFICATE, "TRUSTED CERTIFICATE alone"),
    ("a key beside", lambda: with_key(0), CERTIFICATE, "holds a private key"),
    ("a key beside the CA", lambda: with_key(2), CA, "holds a private key"),
    ("wrong order", wrong_order, CERTIFICATE, "wrong order"),
    ("wrong order of CAs", wrong_order_behind, CERTIFICATE, "wrong order"),
    (
        "an intermediate is missing",
        missing_intermediate,
        CERTIFICATE,
        "intermediate CA that is mis",
    ),
    ("a stranger behind", strange_behind, CERTIFICATE, "which that CA did not sign"),
    ("no root", root_is_missing, CA, "but not the root above it (CN=root)"),
    ("another CA of that name", of_another_ca, CERTIFICATE, "another CA than the one of the same"),
    ("an unknown root", of_an_unknown_root, CERTIFICATE, "not among the CAs in the CA file"),
    ("the CA has expired", lax(begins=NOW - 9 * DAY, ends=NOW - HOUR), CA, "has expired"),
    ("an intermediate has expired", expired_middle, CERTIFICATE, "CN=middle ended on"),
    ("below pathlen", too_deep, CA, "may sign no other CA"),
    ("a CA for servers alone", server_only_middle, CERTIFICATE, "usage clientAuth; CN=middle"),
    ("no keyUsage", lax(usage=None), CA, "lacks keyUsage"),
    ("keyUsage of a leaf", lax(usage=usage(digital_signature=True)), CA, "without keyCertSign"),
    ("no subjectKeyIdentifier", lax(ski=False), CA, "lacks subjectKeyIdentifier"),
    ("easy-rsa 3.0's CA", lax(critical=False), CA, "basicConstraints that are not critical"),
    ("no basicConstraints", lax(constraints=False), CA, "is no CA"),
    ("a CA that is none", lax(is_ca=False), CA, "is no CA"),
    ("no authorityKeyIdentifier", lambda: pair(aki=None), CERTIFICATE, "authorityKeyIdentifier"),
    ("another key of its CA", other_key_id, CERTIFICATE, "names another key of its CA"),
    ("RSA of 1024 bits", lambda: pair(own=key("rsa1024")), CERTIFICATE, "1024 bits; it needs 2048"),
    ("a CA of 1024 bits", lax(kind="rsa1024"), CA, "1024 bits; CN=our own CA needs 2048"),
    ("P-224", lambda: pair(own=key("p224")), CERTIFICATE, "secp224r1"),
    ("a key of RSA-PSS", kind(PSS_KEY), KEY, "is an RSASSA-PSS key"),
    ("a certificate of RSA-PSS", kind(PSS_KEY), CERTIFICATE, "in a form that etcd cannot read"),
    ("a CA of RSA-PSS", kind(authority=PSS_KEY), CA, "in a form that etcd cannot read"),
    ("explicit parameters", kind(EXPLICIT), KEY, "its curve as explicit parameters"),
    ("explicit in the certificate", kind(EXPLICIT), CERTIFICATE, "in a form that etcd cannot"),
    ("a CA with explicit parameters", kind(authority=EXPLICIT), CA, "in a form that etcd cannot"),
    (
        "a huge exponent",
        kind(f"{RSA} -pkeyopt rsa_keygen_pubexp:4294967297"),
        CERTIFICATE,
        "public exponent 4294967297",
    ),
    (
        "brainpool",
        kind("-algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP256r1"),
        CERTIFICATE,
        "a key on brainpoolP256r1",
    ),
    ("Ed448", kind("-algorithm ED448"), CERTIFICATE, "a kind that etcd does not know"),
    ("a CA of Ed448", kind(authority="-algorithm ED448"), CA, "a kind that etcd does not know"),
    ("SHA-224", kind(sign="-sha224"), CERTIFICATE, "is signed with SHA224"),
    ("SHA-3", kind(authority=RSA, sign="-sha3-256"), CERTIFICATE, "is signed with SHA3-256"),
    ("PSS, short salt", kind(authority=RSA, sign=f"{PSS}:20"), CERTIFICATE, "a salt as long as"),
    ("PSS, long salt", kind(authority=RSA, sign=f"{PSS}:max"), CERTIFICATE, "a salt as long as"),
    (
        "PSS, MGF1 with SHA-1",
        kind(authority=RSA, sign=f"{PSS}:32 -sigopt rsa_mgf1_md:sha1"),
        CERTIFICATE,
        "MGF1 with the same hash",
    ),
]


def write(folder, files):
    """Put a pair's files there; their paths."""
    paths = []
    for name, text in zip(("x.crt", "x.key", "ca.crt"), files, strict=True):
        (folder / name).write_bytes(text)
        (folder / name).chmod(0o600)
        paths.append(str(folder / name))
    return paths


def openssl_accepts(folder, need=NEED):
    """Whether Python's own TLS, as strict as 3.13's, gets through a handshake with this pair."""
    paths = [str(folder / name) for name in ("x.crt", "x.key", "ca.crt")]
    return tls_files._rehearsed(*paths, need) == []


@pytest.mark.parametrize("maker", GOOD)
def test_what_good_makers_bring_passes(maker, tmp_path):
    files = GOOD[maker]()
    # What openssl's own program makes is valid from then on.
    assert checks.faults(*files, NEED, NOW + HOUR) == ()
    paths = write(tmp_path, files)
    assert tls_files.faults(*paths, NEED) == []
    assert openssl_accepts(tmp_path)


@pytest.mark.parametrize(("what", "made", "part", "says"), BAD, ids=[row[0] for row in BAD])
def test_what_is_bad_is_named_with_its_file(what, made, part, says, tmp_path):
    files = made()
    found = checks.faults(*files, NEED, NOW)
    assert [one for one in found if one.part == part and says in one.words], found
    paths = write(tmp_path, files)
    path = paths[(CERTIFICATE, KEY, CA).index(part)]
    assert [one for one in tls_files.faults(*paths, NEED) if one.startswith(f"{path} ")]


def test_whatever_openssl_refuses_is_refused_by_name(tmp_path):
    """The oracle: our words must come before a handshake that fails, never after one."""
    silent, refused = [], set()
    for what, made, *_ in BAD:
        folder = tmp_path / what.replace(" ", "_").replace(",", "")
        folder.mkdir()
        files = made()
        write(folder, files)
        if openssl_accepts(folder):
            continue
        refused.add(what)
        silent += [] if checks.faults(*files, NEED, NOW) else [what]
    assert not silent
    strict = {"no keyUsage", "no subjectKeyIdentifier", "easy-rsa 3.0's CA"}
    assert strict | {"no authorityKeyIdentifier", "expired", "no root"} <= refused
    assert len(BAD) > 40 and len(GOOD) > 12


@pytest.mark.parametrize(
    ("need", "subject", "says"),
    [
        (checks.Need(("clientAuth",), common_name="root"), "CN=root", ""),
        (checks.Need(("clientAuth",), common_name="root"), "CN=admin", "it must be root"),
        (checks.Need(("clientAuth",), common_name="root"), "O=x", "common name none; it must be"),
        (checks.Need(("clientAuth",), nameless=True), "O=balancers", ""),
        (checks.Need(("clientAuth",), nameless=True), "CN=lb", "it must have none"),
    ],
)
def test_the_common_name_is_what_the_purpose_wants(need, subject, says):
    found = checks.faults(*pair(subject=subject), need, NOW)
    assert [one for one in found if says in one.words] if says else not found


def test_a_client_s_pair_needs_no_name_and_no_server_s_use(tmp_path):
    files = pair(uses=(CLIENT,), san=())
    need = checks.Need(("clientAuth",))
    assert checks.faults(*files, need, NOW) == ()
    assert tls_files.faults(*write(tmp_path, files), need) == []


def test_sha_1_is_refused():
    """cryptography signs nothing with it any more: openssl's own program does."""
    (found,) = checks._of_signature(Sha1(), "it")
    assert found == "is signed with SHA1; it must be signed with SHA-256, SHA-384 or SHA-512"


def test_an_rsa_key_that_go_takes_in_no_handshake_is_refused(monkeypatch):
    """A real one of more than 8192 bits takes a minute to make."""
    assert checks._LARGEST_RSA == 8192
    monkeypatch.setattr(checks, "_LARGEST_RSA", 2048)
    leaf = x509.load_pem_x509_certificate(pair(own=key("rsa3072"))[0])
    (found,) = checks._of_key(leaf, "it")
    assert "RSA key of 3072 bits; it needs 2048 or more, up to 2048" in found


class Sha1:
    """A certificate as cryptography reads it, signed with SHA-1."""

    signature_hash_algorithm = hashes.SHA1()


def test_a_key_that_all_may_read_is_refused(tmp_path):
    paths = write(tmp_path, pair())
    (tmp_path / "x.key").chmod(0o644)
    (found,) = tls_files.faults(*paths, NEED)
    assert "can be read by everybody on the host (mode 0644)" in found and "chmod 0600" in found
    (tmp_path / "x.key").chmod(0o640)
    assert tls_files.faults(*paths, NEED) == []


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_missing_file_is_named(number, tmp_path):
    paths = write(tmp_path, pair())
    (tmp_path / ("x.crt", "x.key", "ca.crt")[number]).unlink()
    (found,) = tls_files.faults(*paths, NEED)
    assert found.startswith(f"{paths[number]} cannot be read (No such file or directory)")


def test_a_directory_a_pipe_and_a_huge_file_are_refused(tmp_path):
    paths = write(tmp_path, pair())
    (tmp_path / "huge").write_bytes(b"x" * (2 << 20))
    assert "larger than" in tls_files.faults(str(tmp_path / "huge"), *paths[1:], NEED)[0]
    assert "cannot be read" in tls_files.faults(str(tmp_path), *paths[1:], NEED)[0]


def test_links_as_certbot_makes_them_are_followed(tmp_path):
    paths = write(tmp_path, pair())
    for name in ("x.crt", "x.key", "ca.crt"):
        (tmp_path / f"link-{name}").symlink_to(tmp_path / name)
    linked = [str(tmp_path / f"link-{name}") for name in ("x.crt", "x.key", "ca.crt")]
    assert tls_files.faults(*linked, NEED) == []
    (tmp_path / "x.key").chmod(0o644)
    assert "can be read by everybody" in tls_files.faults(*linked, NEED)[0]
    assert tls_files.faults(*paths, NEED)


def row(folder, live, **more):
    """A pair as the master asks for it."""
    source = {
        f"new_{part}": str(folder / name)
        for part, name in (("certificate", "x.crt"), ("key", "x.key"), ("ca", "ca.crt"))
    }
    used = {
        part: str(live / name)
        for part, name in (("certificate", "x.crt"), ("key", "x.key"), ("ca", "ca.crt"))
    }
    return {"purpose": "server", **used, **source, "need": NEED.told(), **more}


def test_the_facts_of_a_pair_compare_what_is_brought_with_what_is_in_use(tmp_path):
    source, live = tmp_path / "source", tmp_path / "live"
    source.mkdir()
    live.mkdir()
    files = pair()
    write(source, files)
    found = tls_files.facts(row(source, live))
    assert (found["placed"], found["same"], found["faults"]) == (False, False, [])
    write(live, files)
    found = tls_files.facts(row(source, live))
    assert (found["placed"], found["same"], found["live_faults"]) == (True, True, [])
    assert len(found["fingerprint"]) == 64 and found["begins"] < found["ends"]
    write(source, pair(ends=NOW - datetime.timedelta(minutes=1)))
    found = tls_files.facts(row(source, live))
    assert not found["same"] and "has expired" in found["faults"][0]
    assert found["live_faults"] == []
    (source / "x.crt").unlink()
    found = tls_files.facts(row(source, live))
    assert not found["same"] and "cannot be read" in found["faults"][0]


def test_a_need_is_the_same_after_its_way_to_a_minion():
    need = checks.Need(BOTH, SAN, "root", False)
    assert checks.Need.of(need.told()) == need


OPENSSL = """
set -e
cd "$1"
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 9 \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
openssl req -newkey rsa:2048 -nodes -keyout x.key -out x.csr -subj /CN=etcd1
printf '%s\n' "$2" > x.cnf
openssl x509 -req -in x.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -out x.crt \
  -extfile x.cnf
chmod 0600 x.key
"""
WANTED = (
    "subjectAltName=IP:10.0.0.1,IP:127.0.0.1,DNS:etcd.example.com\n"
    "extendedKeyUsage=serverAuth,clientAuth\nauthorityKeyIdentifier=keyid\n"
)


@pytest.mark.parametrize(
    ("extensions", "says"), [(WANTED, ""), ("", "lacks the alternative names")]
)
def test_what_openssl_s_own_program_makes(extensions, says, tmp_path):
    command = ["sh", "-c", OPENSSL, "sh", str(tmp_path), extensions]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    paths = [str(tmp_path / name) for name in ("x.crt", "x.key", "ca.crt")]
    found = tls_files.faults(*paths, NEED)
    assert [one for one in found if says in one] if says else found == []
