"""Makes everything in data/: the workbook from the glossary, and the embedded base model from text of our own."""
