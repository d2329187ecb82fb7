"""Names of weights elsewhere, one file a library. ``mcl_mm.transfer.export`` lists those it writes."""
