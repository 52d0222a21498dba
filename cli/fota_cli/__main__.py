"""``python -m fota_cli`` is ``fota``."""

from fota_cli.main import main

main()
