/* Runs the files named on the command line through a fuzz target: for compilers without libFuzzer.
 */
#include "fuzz.h"

static int run(const char *path) {
  static uint8_t buffer[1 << 16];
  FILE *file = fopen(path, "rb");
  if (file == NULL) return -1;
  const size_t size = fread(buffer, 1, sizeof buffer, file);
  fclose(file);
  uint8_t *exact = malloc(size + (size == 0)); /* so that reading past the end is seen */
  for (size_t i = 0; i < size; i++)
    exact[i] = buffer[i];
  LLVMFuzzerTestOneInput(exact, size);
  free(exact);
  return 0;
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    if (run(argv[i]) != 0) {
      fprintf(stderr, "cannot read %s\n", argv[i]);
      return 2;
    }
  }
  printf("%d inputs\n", argc - 1);
  return 0;
}
