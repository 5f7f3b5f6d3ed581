"""What the cost fields of a LiteLLM price map mean in creditd's terms.

Each field is USD for one unit of a meter:

| field | meter |
| --- | --- |
| `input_cost_per_token` | `input_tokens` |
| `output_cost_per_token` | `output_tokens` |
| `output_cost_per_reasoning_token` | `reasoning_tokens` |
| `citation_cost_per_token` | `citation_tokens` |
| `cache_read_input_token_cost`, `input_cost_per_token_cache_hit` | `cache_read_tokens` |
| `explicit_cache_read_input_token_cost` | `explicit_cache_read_tokens` |
| `cache_creation_input_token_cost` | `cache_write_tokens` |
| `cache_creation_input_token_cost_above_1hr`, `_12hr` | `cache_write_1h_tokens`, `cache_write_12h_tokens` |
| `cache_read_input_audio_token_cost`, `_image_` | `cache_read_audio_tokens`, `cache_read_image_tokens` |
| `cache_creation_input_audio_token_cost`, `_image_` | `cache_write_audio_tokens`, `_image_` |
| `input_cost_per_audio_token`, `_image_`, `_video_` | `input_audio_tokens`, `_image_`, `_video_` |
| `output_cost_per_audio_token`, `_image_`, `_video_` | `output_audio_tokens`, `_image_`, `_video_` |
| `input_cost_per_character`, `_pixel`, `_image`, `_second` | `input_characters`, `_pixels` ... |
| `output_cost_per_character`, `_pixel`, `_image`, `_second` | `output_characters`, `_pixels` ... |
| `cost_per_second` | `input_seconds` |
| `input_cost_per_audio_per_second`, `output_`, `_video_` | `input_audio_seconds`, `output_`, `_video_` |
| `input_cost_per_query`, `_request`, `_text_message` | `queries`, `requests`, `text_messages` |
| `search_context_cost_per_query` | `search_queries`, by `search_context_size` where sizes differ |
| `google_maps_grounding_cost_per_query` | `maps_queries` |
| `ocr_cost_per_page`, `annotation_cost_per_page` | `pages`, `annotated_pages` |
| `ocr_cost_per_credit` | `ocr_credits` |
| `code_interpreter_cost_per_session` | `code_interpreter_sessions` |
| `computer_use_input_cost_per_1k_tokens`, `_output_` | `computer_use_input_tokens`, `_output_` |
| `file_search_cost_per_1k_calls` | `file_search_calls` |
| `file_search_cost_per_gb_per_day`, `vector_store_` | `file_search_gb_days`, `vector_store_gb_days` |
| `guardrail_cost_per_unit` | `guardrail_` and the unit's name in snake case |

Endings qualify a field: `_batches`, `_priority`, `_flex`, `_balanced`, `_ultrafast` and `_decisions` are for
requests with that `service_tier` (`batch` for the first); `_above_200k_tokens` is for requests with more than
200,000 `input_tokens`; `output_cost_per_image_4K` and `output_cost_per_second_720p` are for requests with
that `resolution`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

SERVICE_TIERS: Final = {
    "batches": "batch",
    "priority": "priority",
    "flex": "flex",
    "balanced": "balanced",
    "ultrafast": "ultrafast",
    "decisions": "decisions",
}


def _table() -> dict[str, tuple[str, int]]:
    """Field -> meter, and how many units the field's price is for."""
    table = {
        "input_cost_per_token": "input_tokens",
        "cache_read_input_token_cost": "cache_read_tokens",
        "input_cost_per_token_cache_hit": "cache_read_tokens",
        "explicit_cache_read_input_token_cost": "explicit_cache_read_tokens",
        "cache_creation_input_token_cost": "cache_write_tokens",
        "cache_creation_input_token_cost_above_1hr": "cache_write_1h_tokens",
        "cache_creation_input_token_cost_above_12hr": "cache_write_12h_tokens",
        "output_cost_per_token": "output_tokens",
        "output_cost_per_reasoning_token": "reasoning_tokens",
        "citation_cost_per_token": "citation_tokens",
    }
    for way in ("input", "output"):
        for kind in ("audio", "image", "video"):
            table[f"{way}_cost_per_{kind}_token"] = f"{way}_{kind}_tokens"
        for kind in ("audio", "video"):
            table[f"{way}_cost_per_{kind}_per_second"] = f"{way}_{kind}_seconds"
        for unit in ("character", "pixel", "image", "second"):
            table[f"{way}_cost_per_{unit}"] = f"{way}_{unit}s"
    for kind in ("audio", "image"):
        table[f"cache_read_input_{kind}_token_cost"] = f"cache_read_{kind}_tokens"
        table[f"cache_creation_input_{kind}_token_cost"] = f"cache_write_{kind}_tokens"
    table |= {
        "cost_per_second": "input_seconds",
        "input_cost_per_query": "queries",
        "input_cost_per_request": "requests",
        "input_cost_per_text_message": "text_messages",
        "google_maps_grounding_cost_per_query": "maps_queries",
        "ocr_cost_per_page": "pages",
        "annotation_cost_per_page": "annotated_pages",
        "ocr_cost_per_credit": "ocr_credits",
        "code_interpreter_cost_per_session": "code_interpreter_sessions",
        "file_search_cost_per_gb_per_day": "file_search_gb_days",
        "vector_store_cost_per_gb_per_day": "vector_store_gb_days",
    }
    per_thousand = {
        "computer_use_input_cost_per_1k_tokens": "computer_use_input_tokens",
        "computer_use_output_cost_per_1k_tokens": "computer_use_output_tokens",
        "file_search_cost_per_1k_calls": "file_search_calls",
    }
    singles = {name: (meter, 1) for name, meter in table.items()}
    return singles | {name: (meter, 1000) for name, meter in per_thousand.items()}


METERS: Final = _table()

SEARCH_FIELD: Final = "search_context_cost_per_query"
SEARCH_METER: Final = "search_queries"
SEARCH_SIZE: Final = "search_context_size"
DEFAULT_SEARCH_SIZE: Final = "medium"
GUARDRAIL_FIELD: Final = "guardrail_cost_per_unit"
TIERED_FIELD: Final = "tiered_pricing"

METER_ORDER: Final = {
    meter: place
    for place, meter in enumerate([*dict.fromkeys(meter for meter, _ in METERS.values()), SEARCH_METER])
}

_TIER = re.compile(rf"_({'|'.join(SERVICE_TIERS)})$")
_ABOVE = re.compile(r"_above_(\d+)k_tokens$")
_RESOLUTION = re.compile(r"(output_cost_per_(?:image|second))_(\d[\d.]*[kKpP]?)")
_COST_LIKE = re.compile("cost|price|pricing|uplift")

_REASONS = (
    (re.compile(r"dbu"), "is in Databricks units; the same tokens are priced in USD beside it"),
    (re.compile(r"uplift"), "multiplies all prices of a region; add rates that match the region"),
    (re.compile(r"off_peak_pricing"), "depends on the time of day; rates do not"),
    (re.compile(r"_interval$"), "depends on how finely a video is sampled; rates do not"),
)


@dataclass(frozen=True, slots=True)
class PriceField:
    """What a field prices, and for which requests."""

    meter: str
    units: int = 1
    service_tier: str = ""
    above: int = 0
    resolution: str = ""


def price_field(name: str) -> PriceField | None:
    """The meaning of a field that holds one price, or None."""
    rest, service_tier, above, resolution = name, "", 0, ""
    if match := _TIER.search(rest):
        rest, service_tier = rest[: match.start()], SERVICE_TIERS[match[1]]
    if match := _ABOVE.search(rest):
        rest, above = rest[: match.start()], int(match[1]) * 1000
    if match := _RESOLUTION.fullmatch(rest):
        rest, resolution = match[1], match[2]
    if rest not in METERS:
        return None
    meter, units = METERS[rest]
    return PriceField(meter, units, service_tier, above, resolution)


def is_cost_like(name: str) -> bool:
    """Whether a field is about prices, by its name."""
    return _COST_LIKE.search(name) is not None


def why_not(name: str) -> str:
    """Why a cost-like field has no place in rates."""
    return next((why for pattern, why in _REASONS if pattern.search(name)), "is not known to this importer")
