"""What a caller may still use, in the fields of each answer (draft-ietf-httpapi-ratelimit-headers-11)."""

from dataclasses import dataclass

from flask import Flask, Response, g

from api.headers import here


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """A limit over a time, and how much of it is left."""

    name: str
    most: int
    left: int
    window_seconds: int
    left_seconds: int  # for how long no more than that is left
    unit: str = ""  # requests, if nothing is said

    @property
    def policy(self) -> str:
        """What does not change about it (section 3.1)."""
        unit = f';qu="{self.unit}"' if self.unit else ""
        return f'"{self.name}";q={self.most};w={self.window_seconds}{unit}'

    @property
    def limit(self) -> str:
        """What is left of it (section 4.1)."""
        return f'"{self.name}";r={self.left};t={self.left_seconds}'


def tell(quota: Quota) -> None:
    """Have the answer to this request tell of it, instead of what was to be told of it before."""
    quotas: dict[str, Quota] = g.setdefault("quotas", {})
    quotas[quota.name] = quota


def install(app: Flask) -> None:
    """Have every answer tell what it has to."""

    @app.after_request
    def add(response: Response) -> Response:
        quotas: dict[str, Quota] | None = here().get("quotas")
        if quotas:
            response.headers["RateLimit-Policy"] = ", ".join(quota.policy for quota in quotas.values())
            response.headers["RateLimit"] = ", ".join(quota.limit for quota in quotas.values())
        return response
