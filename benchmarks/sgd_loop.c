/* One training run of the documented network (2-10-10-1, ReLU, sigmoid), as a C programmer would write it.

   The same work as keras.Model.fit: rows in a new order every epoch, batches with a smaller last one, forward,
   binary cross-entropy, accuracy, backward, RMSprop; the loss and the accuracy of every epoch are kept. float32,
   one thread. Keras computes this loss from the logit, so nothing needs clipping here either. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

enum { IN = 2, H = 10, W1 = 0, B1 = W1 + IN * H, W2 = B1 + H, B2 = W2 + H * H, W3 = B2 + H, B3 = W3 + H, P = B3 + 1 };

static const float LEARNING_RATE = 0.001f, RHO = 0.9f, EPSILON = 1e-7f; /* the defaults of Keras */

static uint64_t xorshift(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Fisher-Yates. */
static void shuffle(int *order, int rows, uint64_t *state) {
    for (int i = rows - 1; i > 0; i--) {
        int j = (int)(((xorshift(state) >> 32) * (uint64_t)(i + 1)) >> 32);
        int kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

static inline void collect(float *sum, float value, int begin) { *sum = begin ? value : *sum + value; }

/* Forward and backward for one row; returns 1 for a right answer. Its loss is added to *loss. Its gradient is added
   to g, or begins g: with batches of one row, clearing g first would cost a fifth of the time. */
static inline int row_gradient(const float *w, float *g, const float *x, float y, float *loss, int begin) {
    float h1[H], h2[H], d1[H], d2[H];
    for (int j = 0; j < H; j++) h1[j] = fmaxf(w[B1 + j] + x[0] * w[W1 + j] + x[1] * w[W1 + H + j], 0);
    for (int j = 0; j < H; j++) h2[j] = w[B2 + j];
    for (int i = 0; i < H; i++)
        for (int j = 0; j < H; j++) h2[j] += h1[i] * w[W2 + i * H + j];
    float z = w[B3];
    for (int j = 0; j < H; j++) {
        h2[j] = fmaxf(h2[j], 0);
        z += h2[j] * w[W3 + j];
    }
    float small = expf(-fabsf(z)); /* at most 1: nothing overflows */
    float p = (z > 0 ? 1 : small) / (1 + small);
    *loss += fmaxf(z, 0) - z * y + logf(1 + small);

    float d = p - y;
    collect(&g[B3], d, begin);
    for (int j = 0; j < H; j++) {
        collect(&g[W3 + j], d * h2[j], begin);
        d2[j] = h2[j] > 0 ? d * w[W3 + j] : 0;
        collect(&g[B2 + j], d2[j], begin);
    }
    for (int i = 0; i < H; i++) {
        float sum = 0;
        for (int j = 0; j < H; j++) {
            collect(&g[W2 + i * H + j], h1[i] * d2[j], begin);
            sum += w[W2 + i * H + j] * d2[j];
        }
        d1[i] = h1[i] > 0 ? sum : 0;
    }
    for (int j = 0; j < H; j++) {
        collect(&g[W1 + j], x[0] * d1[j], begin);
        collect(&g[W1 + H + j], x[1] * d1[j], begin);
        collect(&g[B1 + j], d1[j], begin);
    }
    return (p > 0.5f) == (y > 0.5f);
}

/* Trains in place.

   weights, squares: P values each, in the order of Keras's get_weights(); squares is RMSprop's average of g*g.
   x: rows x 2; y: rows. seed: of the shuffles; 0 keeps the rows in order.
   loss, accuracy: one value an epoch. Returns 0, or 1 when there is no memory. */
int train(float *weights, float *squares, const float *x, const float *y, int rows, int batch_size, int epochs,
          uint64_t seed, float *loss, float *accuracy) {
    int *order = malloc((size_t)rows * sizeof *order);
    if (!order) return 1;
#if defined(__x86_64__) || defined(_M_X64)
    unsigned kept = _mm_getcsr();
    _mm_setcsr(kept | 0x8040); /* numbers too small to matter count as 0, as in a program linked with -ffast-math */
#endif
    float w[P], v[P], g[P];
    for (int k = 0; k < P; k++) w[k] = weights[k], v[k] = squares[k];
    for (int i = 0; i < rows; i++) order[i] = i;

    for (int epoch = 0; epoch < epochs; epoch++) {
        float total = 0;
        int right = 0;
        if (seed) shuffle(order, rows, &seed);
        for (int first = 0; first < rows; first += batch_size) {
            int end = first + batch_size < rows ? first + batch_size : rows;
            right += row_gradient(w, g, x + IN * order[first], y[order[first]], &total, 1);
            for (int i = first + 1; i < end; i++)
                right += row_gradient(w, g, x + IN * order[i], y[order[i]], &total, 0);
            float share = 1.0f / (float)(end - first);
            for (int k = 0; k < P; k++) {
                float mean = g[k] * share;
                v[k] = RHO * v[k] + (1 - RHO) * mean * mean;
                w[k] -= LEARNING_RATE * mean / sqrtf(v[k] + EPSILON);
            }
        }
        loss[epoch] = total / (float)rows;
        accuracy[epoch] = (float)right / (float)rows;
    }

    for (int k = 0; k < P; k++) weights[k] = w[k], squares[k] = v[k];
    free(order);
#if defined(__x86_64__) || defined(_M_X64)
    _mm_setcsr(kept);
#endif
    return 0;
}
