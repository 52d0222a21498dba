"""What an agent runs on, each behind `fota_agent.seams.Board`: chips, their flash, their crypto element."""
