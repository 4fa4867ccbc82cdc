/* nearest.c - images of another size whose pixels are copies of nearest ones. */
#include "isa.h"

#include <string.h>

/* Bytes of the pixels of an image in memory: where the first one lies, and how far the next is. */
typedef struct layer {
    char *at;
    int64_t image, row, pixel, bytes;
} layer;

typedef struct nearest_job {
    const lw_nearest_args *args;
    layer from[2], to[2]; /* values, and the scales of quantized ones */
    int layers;
} nearest_job;

static layer values_of(const lw_tensor *t) {
    int64_t pixel = t->pixel_bytes, row = pixel * (t->w + t->left + t->right);
    int64_t high = t->h + t->top + t->bottom;
    return (layer){(char *)t->q + t->top * row + t->left * pixel, row * high, row, pixel, t->c};
}

static layer scales_of(const lw_tensor *t) {
    int64_t size = sizeof *t->scale, pixel = t->pixel_windows * size;
    int64_t row = pixel * (t->w + t->left + t->right), high = t->h + t->top + t->bottom;
    char *at = (char *)t->scale + t->top * row + t->left * pixel;
    return (layer){at, row * high, row, pixel, t->windows * size};
}

static layer floats_of(const float *x, const int64_t *stride, int64_t c) {
    int64_t size = sizeof *x;
    return (layer){(char *)x, stride[0] * size, stride[1] * size, stride[2] * size, c * size};
}

/* One task is one output row. */
static void nearest_task(void *context, int64_t index, int worker) {
    const nearest_job *j = context;
    const lw_nearest_args *g = j->args;
    int64_t n = index / g->oh, y = index % g->oh;
    (void)worker;
    if (g->dst_q && g->dst_q->shared && y == 0) lw_tensor_fill_border(g->dst_q, n);
    for (int i = 0; i < j->layers; i++) {
        const layer *from = &j->from[i], *to = &j->to[i];
        const char *x = from->at + n * from->image + g->rows[y] * from->row;
        char *place = to->at + n * to->image + y * to->row;
        for (int64_t column = 0; column < g->ow; column++, place += to->pixel)
            memcpy(place, x + g->columns[column] * from->pixel, (size_t)to->bytes);
    }
}

void lw_nearest(lw_pool *pool, const lw_nearest_args *g) {
    nearest_job j = {.args = g, .layers = g->dst_q ? 2 : 1};
    if (g->dst_q) {
        j.from[0] = values_of(g->src_q), j.from[1] = scales_of(g->src_q);
        j.to[0] = values_of(g->dst_q), j.to[1] = scales_of(g->dst_q);
    } else {
        j.from[0] = floats_of(g->src, g->src_stride, g->c);
        j.to[0] = floats_of(g->dst, g->dst_stride, g->c);
    }
    lw_pool_run(pool, g->n * g->oh, nearest_task, &j);
}
