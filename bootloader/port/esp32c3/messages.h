/* OTA data in flash: reading what an application said, and writing what became of it. */
#ifndef FOTA_ESP32C3_MESSAGES_H
#define FOTA_ESP32C3_MESSAGES_H

/* Before the jump: the answer, if one is due. The journal's record is written by then. */
void fota_messages_answer(void);

#endif
