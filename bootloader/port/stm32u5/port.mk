# STM32U575/U585: banks are swapped by an option byte and a reset.
PORT_CPU := -mcpu=cortex-m33
# as in the Makefile: these passes make the code larger here
PORT_GCC := -fno-if-conversion -fno-ssa-phiopt -fno-guess-branch-probability -fno-tree-loop-im
