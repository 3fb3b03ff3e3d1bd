"""Who does the work in a mixture of experts: when each expert is used, and what it is worth."""

from .report import mixture_report, report_table

__all__ = ["mixture_report", "report_table"]
