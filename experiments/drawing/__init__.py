"""What every figure and table is drawn with: the look of methods, a canvas, tables, a controller's graph."""
