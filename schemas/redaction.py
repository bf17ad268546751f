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

# https://user:password@host, also where the user alone is the token.
_USERINFO = re.compile(r"(?<=://)[^/?#\s]+(?=@)")
_QUERY = re.compile(r"(?P<address>\b[A-Za-z][A-Za-z0-9+.-]*://[^\s?#]*)\?[^\s#]+")
_OPTION = re.compile(r"-*[A-Za-z][\w.-]*")
# name=value, "name": "value"; where the colon follows a bare word it is prose, unless the word is plain enough.
_PAIR = re.compile(
    r"(?<![\w.-])(?P<name>-*[A-Za-z][\w.-]*)(?P<between>\s*=\s*|\\?[\"']\s*[=:]\s*|(?<=word|cret|tion)\s*:\s*)"
    r"(?P<value>\\?\"[^\"]*\"|'[^']*'|(?:Bearer|Basic)\s+[^\s,;&]+|[^\s,;&\"'}\]]+)"
)
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
        is_option = argument.startswith("-")
        name, equals, _ = argument.partition("=")
        if value_is_secret and not is_option:
            shown.append(HIDDEN)
        elif equals and _OPTION.fullmatch(name) and is_secret_name(name):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(redacted_text(argument))
        value_is_secret = is_option and not equals and is_secret_name(argument)
    return shown


def redacted_text(text: str) -> str:
    """A text with `***` in place of what is secret in it."""
    text = _FORMS.sub(HIDDEN, text)
    text = _USERINFO.sub(HIDDEN, text)
    text = _QUERY.sub(lambda match: f"{match['address']}?{HIDDEN}", text)
    return _PAIR.sub(_without_value, text)


def is_secret_name(name: str) -> bool:
    """Whether a name speaks of a secret: `--api-key`, `secretAccessKey`, `X-Auth-Token`; not `--tokens`, `keyboard`."""
    words = [word.lower() for word in _WORD.findall(name)]
    return not _WORDS.isdisjoint(words) or any(part in "".join(words) for part in _ANYWHERE)


def _without_value(match: re.Match[str]) -> str:
    if not is_secret_name(match["name"]):
        return match.group()
    quote = match["value"][-1] if match["value"][-1] in "\"'" else ""
    return f"{match['name']}{match['between']}{quote}{HIDDEN}{quote}"
