"""The reporting room: what an evaluation found, for people (HTML) and for programs (JSON)."""

from __future__ import annotations

from draem.reporting.metrics_json import metrics_document, write_metrics
from draem.reporting.report import write_report

__all__ = ["metrics_document", "write_metrics", "write_report"]
