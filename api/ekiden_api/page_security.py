"""What a page says to the browser about itself: nothing foreign, and nothing inline but what is named."""

import base64
import hashlib
from collections.abc import Mapping


def inline_source(body: str) -> str:
    """The source that allows exactly this inline element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"


def page_headers(*, scripts: str, styles: str) -> Mapping[str, str]:
    """The headers of a page that runs and wears these sources alone."""
    policy = (
        "default-src 'none'",
        f"script-src {scripts}",
        f"style-src {styles}",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
