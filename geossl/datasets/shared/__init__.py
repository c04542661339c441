"""Code that several data sets share: tables, csv, paths, detections, dated folders."""

__all__ = ["csv", "dated_folders", "detections", "listing", "paths", "table"]
