/* test_isas.c - prints the instruction sets that this CPU has, and finds each of them by its name.
 */
#include "check.h"
#include "lw.h"

int main(void) {
    const lw_isa *isa = NULL, *last = NULL;
    for (int i = 0; (isa = lw_isa_at(i)); i++) {
        int mr, nr, kr;
        lw_isa_tile(isa, &mr, &nr, &kr);
        CHECK(lw_isa_find(lw_isa_name(isa)) == isa);
        CHECK(lw_isa_peak(isa, 10) == 10 * mr * nr * kr);
        int32_t x[130], y[130] = {0};
        for (int j = 0; j < 130; j++) x[j] = j;
        CHECK(lw_isa_read(isa, x, 130, 2) == 2 * 128 * 4);
        CHECK(lw_isa_copy(isa, x, y, 130, 2) == 2 * 2 * 128 * 4 && y[127] == 127 && !y[128]);
        printf(i ? " %s" : "%s", lw_isa_name(isa));
        last = isa;
    }
    printf("\n");
    CHECK(last == lw_isa_best());
    CHECK(!lw_isa_find("sse9"));
    return 0;
}
