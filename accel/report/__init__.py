"""A report on a model: one HTML page that needs no other file."""

from __future__ import annotations

from accel.report.page import report_page
from accel.report.survey import DeviceTime, LayerError, Survey, survey

__all__ = ["DeviceTime", "LayerError", "Survey", "report_page", "survey"]
