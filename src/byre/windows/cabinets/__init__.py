"""Cabinet files (.cab, driver.cab, the media's ``*.??_``), read-only: their files, expanded."""

from byre.windows.cabinets.cabinet import Cabinet, CabinetFile, expand, is_cabinet, open_cabinet

__all__ = ["Cabinet", "CabinetFile", "expand", "is_cabinet", "open_cabinet"]
