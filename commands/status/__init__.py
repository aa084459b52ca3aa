"""`retail-stream status`: lag, rates, watermark and counts."""
