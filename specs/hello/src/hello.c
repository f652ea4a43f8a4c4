#include <stdio.h>

#ifndef WHO
#define WHO "world"
#endif

int main(void)
{
    puts("hello, " WHO);
    return 0;
}
