"""The study: arms that differ in their labels alone, trained, scored and compared."""
