"""diptych: one client for the two ways in which machines paint.

    from diptych import ImageClient

    client = ImageClient("openai/gpt-image-2")
    client.generate("a watercolor of a fox reading a book").image.save("fox.png")

Importing this package loads nothing else; each name loads what it needs when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cards import EditMode as EditMode
    from .cards import Lifecycle as Lifecycle
    from .cards import ModelCard as ModelCard
    from .cards import Option as Option
    from .cards import Paradigm as Paradigm
    from .client import AsyncImageClient as AsyncImageClient
    from .conditioning import Control as Control
    from .conditioning import Expand as Expand
    from .conditioning import LoRA as LoRA
    from .conditioning import Reference as Reference
    from .conversation import AsyncConversation as AsyncConversation
    from .conversation import Conversation as Conversation
    from .conversation import Turn as Turn
    from .cost import Budget as Budget
    from .cost import Cost as Cost
    from .cost import Estimate as Estimate
    from .errors import AuthenticationFailed as AuthenticationFailed
    from .errors import BudgetExceeded as BudgetExceeded
    from .errors import Cancelled as Cancelled
    from .errors import ConfigurationError as ConfigurationError
    from .errors import ContentBlocked as ContentBlocked
    from .errors import DeadlineExceeded as DeadlineExceeded
    from .errors import DiptychError as DiptychError
    from .errors import InvalidInput as InvalidInput
    from .errors import MalformedResponse as MalformedResponse
    from .errors import MissingCredentials as MissingCredentials
    from .errors import NoDefaultModel as NoDefaultModel
    from .errors import OutcomeUnknown as OutcomeUnknown
    from .errors import PermissionDenied as PermissionDenied
    from .errors import ProviderError as ProviderError
    from .errors import ProviderNotInstalled as ProviderNotInstalled
    from .errors import QuotaExhausted as QuotaExhausted
    from .errors import RateLimited as RateLimited
    from .errors import RequestError as RequestError
    from .errors import RetiredModel as RetiredModel
    from .errors import Unavailable as Unavailable
    from .errors import UnknownModel as UnknownModel
    from .errors import UnsupportedOption as UnsupportedOption
    from .events import Completed as Completed
    from .events import Event as Event
    from .events import Preview as Preview
    from .events import Progress as Progress
    from .events import Queued as Queued
    from .events import TextDelta as TextDelta
    from .image import Image as Image
    from .job import AsyncJob as AsyncJob
    from .mask import Mask as Mask
    from .notices import Notice as Notice
    from .plan import Call as Call
    from .plan import Plan as Plan
    from .plugins import describe as describe
    from .plugins import models as models
    from .plugins import providers as providers
    from .request import Request as Request
    from .result import Result as Result
    from .result import Usage as Usage
    from .sync import ImageClient as ImageClient
    from .sync import Job as Job

__version__ = "0.1.0"

_HOME = {
    "cards": ("EditMode", "Lifecycle", "ModelCard", "Option", "Paradigm"),
    "client": ("AsyncImageClient",),
    "conditioning": ("Control", "Expand", "LoRA", "Reference"),
    "conversation": ("AsyncConversation", "Conversation", "Turn"),
    "cost": ("Budget", "Cost", "Estimate"),
    "errors": (
        "AuthenticationFailed",
        "BudgetExceeded",
        "Cancelled",
        "ConfigurationError",
        "ContentBlocked",
        "DeadlineExceeded",
        "DiptychError",
        "InvalidInput",
        "MalformedResponse",
        "MissingCredentials",
        "NoDefaultModel",
        "OutcomeUnknown",
        "PermissionDenied",
        "ProviderError",
        "ProviderNotInstalled",
        "QuotaExhausted",
        "RateLimited",
        "RequestError",
        "RetiredModel",
        "Unavailable",
        "UnknownModel",
        "UnsupportedOption",
    ),
    "events": ("Completed", "Event", "Preview", "Progress", "Queued", "TextDelta"),
    "image": ("Image",),
    "job": ("AsyncJob",),
    "mask": ("Mask",),
    "notices": ("Notice",),
    "plan": ("Call", "Plan"),
    "plugins": ("describe", "models", "providers"),
    "request": ("Request",),
    "result": ("Result", "Usage"),
    "sync": ("ImageClient", "Job"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'diptych' has no attribute {name!r}")
    value = getattr(__import__(f"{__name__}.{module}", fromlist=(name,)), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
