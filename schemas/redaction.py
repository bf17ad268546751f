"""Words of a command line without the secrets in them, for whatever is written down: provenance, messages, logs.

A secret is told by the name it is given (`--api-token x`, `AccountKey=x`, `"password": "x"`), by its place in an
address (`https://user:password@host`, the query of a signed link), or by its form (keys of well-known services). Too
much hidden costs a reader a look at the shell's history; too little costs a key.
"""

import re
from collections.abc import Sequence

HIDDEN = "***"

_ANYWHERE = (
    "password", "passwd", "passphrase", "secret", "credential", "apikey", "accesskey", "privatekey", "accountkey",
)  # fmt: skip
_WORDS = {"key", "token", "auth", "authorization", "bearer", "pwd", "pass", "sas", "sig", "signature", "cookie", "jwt"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_BETWEEN_SPACES = re.compile(r"(?<!\S)\S+")
_OPTION = re.compile(r"-*[A-Za-z][\w.-]*")
_HEADER = re.compile(r"(?P<name>[A-Za-z][\w.-]*)\s*:(?!//).*", re.DOTALL)
# Words that stand before a colon in prose, where a colon follows them bare: "time signature: 3/4".
_PROSE = {"key", "signature", "pass"}
# name=value, "name": "value", name: value; apart, because a value may itself be a name with a value.
_NAME = re.compile(
    r"(?<![\w.-])(?P<name>-*[A-Za-z][\w.-]*)(?P<between>\s*=\s*|\\?[\"']\s*[=:]\s*|\s*:\s*)(?=[^\s,;&}\]])"
)
_VALUE = re.compile(r"\\?\"[^\"]*\"|'[^']*'|(?:Bearer|Basic|Token)\s+[^\s,;&]+|[^\s,;&\"'}\]]+|[\"']\S*")
_FORMS = re.compile(
    r"""\bAKIA[0-9A-Z]{16}\b                             # Amazon
      | \bAIza[0-9A-Za-z_-]{35}                          # Google, a key
      | \bya29\.[0-9A-Za-z_-]{20,}                       # Google, a token
      | \b(?:gh[pousr]|github_pat)_[0-9A-Za-z_]{20,}     # GitHub
      | \bhf_[0-9A-Za-z]{20,}                            # Hugging Face
      | \bxox[abprs]-[0-9A-Za-z-]{10,}                   # Slack
      | \bsk-[0-9A-Za-z_-]{20,}
      | \beyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}(?:\.[0-9A-Za-z_-]+)?   # a JSON web token
      | -----BEGIN[ A-Z]*PRIVATE\ KEY-----.*?(?:-----END[ A-Z]*PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)


def redacted(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command with `***` in place of what is secret."""
    shown = []
    value_is_secret = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        header = _HEADER.fullmatch(argument)
        # A key may begin with a dash; that two dashes begin one is less likely than a flag without a value.
        if value_is_secret and not argument.startswith("--"):
            shown.append(HIDDEN)
            value_is_secret = False
            continue
        if header and _is_secret_before_colon(header["name"]):
            shown.append(f"{header['name']}: {HIDDEN}")
        elif equals and _OPTION.fullmatch(name) and is_secret_name(name):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(redacted_text(argument))
        value_is_secret = argument.startswith("-") and not equals and is_secret_name(argument)
    return shown


def redacted_text(text: str) -> str:
    """A text with `***` in place of what is secret in it."""
    text = _FORMS.sub(HIDDEN, text)
    text = _BETWEEN_SPACES.sub(lambda match: _plain_address(match.group()), text)
    return _without_values(text)


def is_secret_name(name: str) -> bool:
    """Whether a name speaks of a secret: `--api-key`, `secretAccessKey`, `X-Auth-Token`; not `--tokens`, `keyboard`."""
    words = [word.lower() for word in _WORD.findall(name)]
    return not _WORDS.isdisjoint(words) or any(part in "".join(words) for part in _ANYWHERE)


def _is_secret_before_colon(name: str) -> bool:
    return is_secret_name(name) and name.lower() not in _PROSE


def _plain_address(word: str) -> str:
    """Without https://user:password@host, also where the user alone is the token, and the query of a signed link."""
    # To the last @: a password that nobody escaped holds any sign.
    begin, end = word.find("://") + 3, word.rfind("@")
    if 3 <= begin < end:
        word = word[:begin] + HIDDEN + word[end:]
    return "#".join(map(_without_query, word.split("#")))


def _without_query(part: str) -> str:
    scheme, slashes, rest = part.partition("://")
    path, _, query = rest.partition("?")
    return f"{scheme}{slashes}{path}?{HIDDEN}" if slashes and query else part


def _without_values(text: str) -> str:
    parts, at = [], 0
    while match := _NAME.search(text, at):
        parts.append(text[at : match.end()])
        at = match.end()
        is_secret = _is_secret_before_colon if match["between"].strip() == ":" else is_secret_name
        if is_secret(match["name"]) and (value := _VALUE.match(text, at)):
            quote = value.group()[-1] if value.group()[-1] in "\"'" else ""
            parts.append(f"{quote}{HIDDEN}{quote}")
            at = value.end()
    return "".join(parts) + text[at:]
