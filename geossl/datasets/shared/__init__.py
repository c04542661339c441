"""What several data sets share: tables, csv, paths, detections, dated folders."""
