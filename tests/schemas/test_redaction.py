"""What is secret in a command line is not written down, and what is not stays readable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.redaction import HIDDEN, is_secret_name, redacted, redacted_text

SECRET = "S3cr3tV4lue"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--api-token", SECRET, "--steps", "5"], ["--api-token", HIDDEN, "--steps", "5"]),
        (["--s3_secret_access_key=" + SECRET], ["--s3_secret_access_key=" + HIDDEN]),
        (["--password", f"{SECRET} in two words"], ["--password", HIDDEN]),
        ([f"PASSWORD={SECRET} {SECRET}"], [f"PASSWORD={HIDDEN}"]),
        (["--no_auth", "--runner", "x"], ["--no_auth", "--runner", "x"]),
        (["--token", "--steps"], ["--token", "--steps"]),
        ([f"https://user:{SECRET}@host/path"], [f"https://{HIDDEN}@host/path"]),
        ([f"--proxy=https://{SECRET}@host:80/x"], [f"--proxy=https://{HIDDEN}@host:80/x"]),
        ([f"ftp://u:{SECRET}@{SECRET}@host"], [f"ftp://{HIDDEN}@host"]),
        (
            [f"--input=https://h/a.zip?X-Goog-Signature={SECRET}&Expires=1#part"],
            [f"--input=https://h/a.zip?{HIDDEN}#part"],
        ),
        ([f'--environment_options={{"authToken": "{SECRET}", "cpus": 4}}'],
         [f'--environment_options={{"authToken": "{HIDDEN}", "cpus": 4}}']),
        ([f'--o={{\\"token\\": \\"{SECRET}\\", \\"n\\": 1}}'], [f'--o={{\\"token\\": "{HIDDEN}", \\"n\\": 1}}']),
        ([f"--experiments=use_x,api_key={SECRET},y"], [f"--experiments=use_x,api_key={HIDDEN},y"]),
        ([f"DefaultEndpointsProtocol=https;AccountKey={SECRET}==;Suffix=x"],
         [f"DefaultEndpointsProtocol=https;AccountKey={HIDDEN};Suffix=x"]),
        ([f"Authorization: Bearer {SECRET}"], [f"Authorization: {HIDDEN}"]),
        (["--api-token", f"-{SECRET}", "--steps", "5"], ["--api-token", HIDDEN, "--steps", "5"]),
        (["--s3_secret_access_key", f"-{SECRET}", "-x"], ["--s3_secret_access_key", HIDDEN, "-x"]),
        ([f"--s3_endpoint_url=https://u:{SECRET}/?#w@h/x"], [f"--s3_endpoint_url=https://{HIDDEN}@h/x"]),
        (["-H", f"X-Api-Key: {SECRET} {SECRET}"], ["-H", f"X-Api-Key: {HIDDEN}"]),
        ([f"token: {SECRET}"], [f"token: {HIDDEN}"]),
        ([f"Cookie:a={SECRET}; b={SECRET}"], [f"Cookie: {HIDDEN}"]),
        ([f"--headers=Accept: x, X-Api-Key: {SECRET}"], [f"--headers=Accept: x, X-Api-Key: {HIDDEN}"]),
        (["--x=AKIA" + "A1" * 8], [f"--x={HIDDEN}"]),
        (["ghp_" + "a1" * 18], [HIDDEN]),
        (["-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----"], [HIDDEN]),
    ],
)  # fmt: skip
def test_a_secret_is_hidden_and_what_stands_beside_it_is_not(arguments: list[str], shown: list[str]) -> None:
    assert redacted(arguments) == shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["stretto", "prepare", "maestro", "--input", "/data/maestro-v3.0.0-midi.zip", "--pitch-range", "21..108"],
        ["--max-tokens", "2048", "--keyboard=piano", "--tokens=events", "--transpose=-3..3", "--only", "a=b.txt"],
        ["out@home/dir", "gs://bucket/folder", "C:/x", "--note=mail@host.org", ""],
    ],
)
def test_a_command_without_secrets_stays_as_it_was_typed(arguments: list[str]) -> None:
    assert redacted(arguments) == arguments


def test_a_sentence_about_a_key_of_ours_stays_readable() -> None:
    for text in (
        "unknown key 'stpes'. Did you mean 'steps'?",
        "shard x, record 3, key: maestro/2004/a.midi#+0@1",
        "x.mid: the time signature: 3/4",
    ):
        assert redacted_text(text) == text


@pytest.mark.parametrize(
    "name",
    ["--api-key", "secretAccessKey", "X-Auth-Token", "DB_PASSWORD", "--pwd", "sas", "APIKEY",
     "google_application_credentials", "clientSecretValue", "private_key_id"],
)  # fmt: skip
def test_names_that_speak_of_a_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["--tokens", "keyboard", "monkey", "--author", "compass", "signal", "--key2pitches-x"])
def test_names_that_only_resemble_one(name: str) -> None:
    assert is_secret_name(name) == (name == "--key2pitches-x")


@given(
    st.text("ABCDEFGHJKabcdefghjk0123456789", min_size=12, max_size=30),
    st.sampled_from(
        [
            "--my-token={}",
            "--x=https://u:{}@h/p",
            "https://h/p?sig={}",
            'a={{"password":"{}"}}',
            "--password='{}'",
            "https://u:/{}?@h",
            "X-Auth-Token: {}",
            "--h=api-key:{}",
        ]
    ),
    st.lists(st.sampled_from(["--steps", "5", "--input=a b", "x=y", "https://h/p"])),
)
def test_no_secret_survives_in_any_company(secret: str, form: str, others: list[str]) -> None:
    assert secret not in " ".join(redacted([*others, form.format(secret), *others]))
    assert secret not in " ".join(redacted([*others, "--api-key", secret, *others]))
    assert secret not in " ".join(redacted([*others, "--api-key", f"-{secret}", *others]))
