/* Start of a Cortex-M program whose output goes to the emulator's host. */
#include <stdlib.h>

extern void initialise_monitor_handles(void);
extern int main(void);
void reset(void);

/* The stack grows down from 384 KiB into RAM. */
extern void stack_top(void);

__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {
    stack_top,
    reset,
};

void reset(void) {
    initialise_monitor_handles();
    exit(main());
}
