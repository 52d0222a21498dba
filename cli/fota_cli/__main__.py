"""``python -m fota_cli`` is ``fota``."""

from fota_cli.entry import main

main()
