// What minidl computes for images on a GPU: see kernels.cu, which precedes this file.

// ---- images ---------------------------------------------------------------------------------------------------------

// SIZES: images (., h, w, c), windows of kh x kw at every sh-th row and sw-th column from (-ph, -pw) on, (oh, ow) of
// them. A block processes one row of pixels: a thread every blockDim.y-th of them, and of those every blockDim.x-th
// channel.
#define SIZES int c, int h, int w, int oh, int ow, int kh, int kw, int sh, int sw, int ph, int pw
#define EACH_PIXEL(width) for (int z = threadIdx.y; z < width; z += blockDim.y)
#define EACH_CHANNEL for (int ch = threadIdx.x; ch < c; ch += blockDim.x)

// im2col: row p of the result (N*oh*ow, kh*kw*c) is the window at output pixel p, with zeros outside the image.
KERNEL windows(T *rows, const T *x, SIZES) {
    const int n = blockIdx.x / oh, y = blockIdx.x % oh, across = kw * c;
    EACH_PIXEL(ow) {
        T *out = rows + ((long long)blockIdx.x * ow + z) * kh * across;
        const int left = z * sw - pw, from = left < 0 ? -left * c : 0, to = (w - left < kw ? w - left : kw) * c;
        for (int a = 0; a < kh; a++) {
            const int row = y * sh + a - ph;
            const T *in = x + (((long long)n * h + row) * w + left) * c;
            const int known = 0 <= row && row < h;
            for (int j = threadIdx.x; j < across; j += blockDim.x)
                out[a * across + j] = known && from <= j && j < to ? in[j] : 0;
        }
    }
}

// Backward: each pixel sums what it gets from the windows that contain it. Window (y, x) has the pixel at `place`.
#define FROM_WINDOWS(ADD)                                                                                             \
    const int n = blockIdx.x / h, row = blockIdx.x % h + ph, last_y = row / sh < oh ? row / sh : oh - 1;              \
    EACH_PIXEL(w) {                                                                                                   \
        const int col = z + pw, last_x = col / sw < ow ? col / sw : ow - 1;                                           \
        EACH_CHANNEL {                                                                                                \
            T total = 0;                                                                                              \
            for (int y = last_y; y >= 0 && row - y * sh < kh; y--)                                                    \
                for (int x = last_x; x >= 0 && col - x * sw < kw; x--) {                                              \
                    const int place = (row - y * sh) * kw + col - x * sw;                                             \
                    const long long at = ((long long)n * oh + y) * ow + x;                                            \
                    ADD                                                                                               \
                }                                                                                                     \
            dx[((long long)blockIdx.x * w + z) * c + ch] = total;                                                     \
        }                                                                                                             \
    }

KERNEL pixels(T *dx, const T *rows, SIZES) { FROM_WINDOWS(total += rows[(at * kh * kw + place) * c + ch];) }

// The maximum of each window, and its place in the window (the first of equal ones). Fused with a bias, if there is
// one, and a ReLU, if with_relu (then a window without a positive value has no winner, NONE).
#define NONE 65535
KERNEL max_pool(T *best, unsigned short *winner, const T *x, const T *bias, int with_relu, SIZES) {
    const int n = blockIdx.x / oh, top = blockIdx.x % oh * sh - ph;
    EACH_PIXEL(ow) EACH_CHANNEL {
        const int left = z * sw - pw;
        T most = 0;
        int place = -1;
        for (int a = top < 0 ? -top : 0; a < kh && top + a < h; a++)
            for (int b = left < 0 ? -left : 0; b < kw && left + b < w; b++) {
                const T value = x[(((long long)n * h + top + a) * w + left + b) * c + ch] + (bias ? bias[ch] : 0);
                if (place < 0 || value > most || (value != value && most == most)) most = value, place = a * kw + b;
            }
        const long long at = ((long long)blockIdx.x * ow + z) * c + ch;
        const int rests = with_relu && most <= 0;
        best[at] = rests ? 0 : most;
        winner[at] = rests ? NONE : place;
    }
}

KERNEL max_pool_back(T *dx, const T *g, const unsigned short *winner, SIZES) {
    FROM_WINDOWS(if (winner[at * c + ch] == place) total += g[at * c + ch];)
}

// g where there is a winner, summed over the rows: the gradient of the bias before a pooled ReLU.
KERNEL winners_sums(T *out, const T *g, const unsigned short *winner, int rows, int columns, int per_part) {
    SUM_ROWS(T, 1, v[0] = winner[i] == NONE ? 0 : g[i];)
}

KERNEL avg_pool(T *mean, const T *x, SIZES) {
    const int n = blockIdx.x / oh, top = blockIdx.x % oh * sh - ph;
    EACH_PIXEL(ow) EACH_CHANNEL {
        const int left = z * sw - pw;
        T total = 0;
        for (int a = top < 0 ? -top : 0; a < kh && top + a < h; a++)
            for (int b = left < 0 ? -left : 0; b < kw && left + b < w; b++)
                total += x[(((long long)n * h + top + a) * w + left + b) * c + ch];
        mean[((long long)blockIdx.x * ow + z) * c + ch] = total / (kh * kw);
    }
}

KERNEL avg_pool_back(T *dx, const T *g, SIZES) { FROM_WINDOWS(total += g[at * c + ch] / (kh * kw);) }

// ---- convolution ----------------------------------------------------------------------------------------------------

// A convolution is a matrix product: (pixels, kh*kw*c) windows times (kh*kw*c, columns) filters. Here the windows are
// not copied to global memory (implicit im2col): they are fetched from the image as the product needs them. A block
// computes a tile of the output, BM pixels by BN columns, eight elements of the windows at a time (double buffering):
// while its BM threads multiply eight from shared memory, they fetch the next eight, each thread four for two pixels. A
// thread keeps 8 x TN sums in registers.

#define STEP 8
typedef struct ALIGN { T v[4]; } quad;

// The thread's next four elements of both windows, (a, b, ch) being the place of the first, and its part of the
// filters' next eight rows. Four consecutive channels are one load of 16 bytes.
#define FETCH(BM, BN)                                                                                                 \
    if (c % STEP == 0) {                                                                                              \
        for (int q = 0; q < 2; q++) {                                                                                 \
            const int row = top[q] + a, col = left[q] + b, known = 0 <= row && row < h && 0 <= col && col < w;        \
            const quad zero = {{0, 0, 0, 0}};                                                                         \
            next[q] = known ? *(const quad *)(image[q] + (row * w + col) * c + ch) : zero;                            \
        }                                                                                                             \
        if ((ch += STEP) >= c) { ch -= c; if (++b == kw) b = 0, a++; }                                                \
    } else                                                                                                            \
        for (int i = 0; i < STEP; i++) {                                                                              \
            for (int q = 0; q < 2 && i < 4; q++) {                                                                    \
                const int row = top[q] + a, col = left[q] + b, known = 0 <= row && row < h && 0 <= col && col < w;    \
                next[q].v[i] = known && a < kh ? image[q][(row * w + col) * c + ch] : 0;                              \
            }                                                                                                         \
            if (++ch == c) { ch = 0; if (++b == kw) b = 0, a++; }                                                     \
        }                                                                                                             \
    for (int j = 0; j < STEP * BN / BM; j++) {                                                                        \
        const int e = threadIdx.x + j * BM, row = k + e / BN;                                                         \
        more[j] = row < across ? filters[row * padded + first + e % BN] : 0;                                          \
    }

#define LAY_DOWN(BM, BN)                                                                                              \
    for (int q = 0; q < 2; q++)                                                                                       \
        for (int i = 0; i < 4; i++)                                                                                   \
            of_x[now][threadIdx.x % 2 * 4 + i][threadIdx.x / 2 + q * (BM / 2)] = next[q].v[i];                        \
    for (int j = 0; j < STEP * BN / BM; j++) of_w[now][0][threadIdx.x + j * BM] = more[j];                            \
    SYNC

// out (pixels, columns) = windows of x @ filters (kh*kw*c, padded) + bias, then a ReLU if with_relu.
#define CONVOLVE(NAME, BM, BN, TN)                                                                                    \
KERNEL NAME(T *out, const T *x, const T *filters, const T *bias, int with_relu, int columns, int padded, int pixels,  \
            SIZES) {                                                                                                  \
    SHARED ALIGN T of_x[2][STEP][BM + 4], of_w[2][STEP][BN];                                                          \
    const int first = blockIdx.y * BN, across = kh * kw * c;                                                          \
    const int mine = threadIdx.x / (BN / TN) * 8, of_mine = threadIdx.x % (BN / TN) * TN;                             \
    const T *image[2];                                                                                                \
    int top[2], left[2], a = 0, b = 0, ch = 0, now = 0, k = 0;                                                        \
    for (int q = 0; q < 2; q++) {                                                                                     \
        const int pixel = blockIdx.x * BM + threadIdx.x / 2 + q * (BM / 2);                                           \
        image[q] = x + (long long)(pixel / (ow * oh)) * h * w * c;                                                    \
        top[q] = pixel < pixels ? pixel / ow % oh * sh - ph : -kh; /* outside of every image */                       \
        left[q] = pixel % ow * sw - pw;                                                                               \
    }                                                                                                                 \
    for (int i = 0; i < threadIdx.x % 2 * 4; i++)                                                                     \
        if (++ch == c) { ch = 0; if (++b == kw) b = 0, a++; }                                                         \
    quad next[2];                                                                                                     \
    T more[STEP * BN / BM], sum[8][TN] = {{0}};                                                                       \
    FETCH(BM, BN)                                                                                                     \
    LAY_DOWN(BM, BN)                                                                                                  \
    for (k = STEP;; k += STEP) {                                                                                      \
        if (k < across) { FETCH(BM, BN) }                                                                             \
        UNROLL                                                                                                        \
        for (int j = 0; j < STEP; j++) {                                                                              \
            T u[8], v[TN];                                                                                            \
            for (int i = 0; i < 8; i += 4) *(quad *)(u + i) = *(quad *)&of_x[now][j][mine + i];                       \
            for (int i = 0; i < TN; i += 4) *(quad *)(v + i) = *(quad *)&of_w[now][j][of_mine + i];                   \
            for (int i = 0; i < 8; i++)                                                                               \
                for (int q = 0; q < TN; q++) sum[i][q] += u[i] * v[q];                                                \
        }                                                                                                             \
        if (k >= across) break;                                                                                       \
        now = 1 - now;                                                                                                \
        LAY_DOWN(BM, BN)                                                                                              \
    }                                                                                                                 \
    for (int i = 0; i < 8; i++) {                                                                                     \
        const int p = blockIdx.x * BM + mine + i;                                                                     \
        if (p < pixels)                                                                                               \
            for (int q = 0; q < TN; q++) {                                                                            \
                const int f = first + of_mine + q;                                                                    \
                if (f >= columns) break;                                                                              \
                const T value = sum[i][q] + (bias ? bias[f] : 0);                                                     \
                out[(long long)p * columns + f] = with_relu && value < 0 ? 0 : value;                                 \
            }                                                                                                         \
    }                                                                                                                 \
}
CONVOLVE(convolve_256_32, 256, 32, 4)
CONVOLVE(convolve_64_32, 64, 32, 4)
CONVOLVE(convolve_128_64, 128, 64, 8)
CONVOLVE(convolve_64_64, 64, 64, 8)

// The filters as that product needs them: (taps, c, padded), filters last, from weight (filters, c, taps). Backwards:
// (taps, filters, padded), channels last and the taps in reverse order: with these, and the gradient of the output in
// place of x, the same product gives the gradient of x (at stride 1).
KERNEL lay_filters(T *out, const T *weight, int filters, int c, int taps, int backwards, int padded, int n) {
    EACH(n)
    const int last = i % padded, middle = i / padded % (backwards ? filters : c), tap = i / padded / (backwards ? filters : c);
    const int f = backwards ? middle : last, ch = backwards ? last : middle, at = backwards ? taps - 1 - tap : tap;
    out[i] = f < filters && ch < c ? weight[(f * c + ch) * taps + at] : 0;
}

// The gradient of the filters: out (parts, kh*kw*c, columns) = (windows of x).T @ g, each part from per_part pixels. A
// block computes a tile of the output, BM elements of the window by BN columns, sixteen pixels at a time. A thread
// fetches the same four elements of the window, at (a, b, ch), for every EVERY-th pixel.
#define PIXELS 16
#define FETCH_BACK(BM, BN)                                                                                            \
    for (int j = 0; j < PIXELS / EVERY; j++) {                                                                        \
        for (int i = 0; i < 4; i++) {                                                                                 \
            const int row = y * sh + a[i] - ph, col = z * sw + b[i] - pw;                                             \
            const int known = pixel < to && k + i < across && 0 <= row && row < h && 0 <= col && col < w;             \
            const T *from = image + (row * w + col) * c + ch[i];                                                      \
            if (c % 4 == 0) {                                                                                         \
                const quad zero = {{0, 0, 0, 0}};                                                                     \
                next[j] = known ? *(const quad *)from : zero;                                                         \
                break;                                                                                                \
            }                                                                                                         \
            next[j].v[i] = known ? from[0] : 0;                                                                       \
        }                                                                                                             \
        pixel += EVERY;                                                                                               \
        for (z += EVERY; z >= ow; z -= ow)                                                                            \
            if (++y == oh) y = 0, image += (long long)h * w * c;                                                      \
    }                                                                                                                 \
    for (int j = 0; j < PIXELS * BN / THREADS; j++) {                                                                 \
        const int e = threadIdx.x + j * THREADS, p = at + e / BN, f = first + e % BN;                                 \
        more[j] = p < to && f < columns ? g[(long long)p * columns + f] : 0;                                          \
    }

#define LAY_DOWN_BACK(BM, BN)                                                                                         \
    for (int j = 0; j < PIXELS / EVERY; j++)                                                                          \
        *(quad *)&of_x[now][threadIdx.x / (BM / 4) + j * EVERY][threadIdx.x % (BM / 4) * 4] = next[j];                \
    for (int j = 0; j < PIXELS * BN / THREADS; j++) of_g[now][0][threadIdx.x + j * THREADS] = more[j];                \
    SYNC

#define CONVOLVE_BACK(NAME, BM, BN)                                                                                   \
KERNEL NAME(T *out, const T *g, const T *x, int columns, int pixels, int per_part, SIZES) {                           \
    enum { THREADS = BM / 8 * BN / 4, EVERY = THREADS * 4 / BM };                                                     \
    SHARED ALIGN T of_x[2][PIXELS][BM], of_g[2][PIXELS][BN];                                                          \
    const int across = kh * kw * c, tiles = (columns + BN - 1) / BN, first = blockIdx.y % tiles * BN;                 \
    const int top = blockIdx.y / tiles * BM, k = top + threadIdx.x % (BM / 4) * 4;                                    \
    const int a[4] = {k / (kw * c), (k + 1) / (kw * c), (k + 2) / (kw * c), (k + 3) / (kw * c)};                      \
    const int b[4] = {k / c % kw, (k + 1) / c % kw, (k + 2) / c % kw, (k + 3) / c % kw};                              \
    const int ch[4] = {k % c, (k + 1) % c, (k + 2) % c, (k + 3) % c};                                                 \
    const int from = blockIdx.x * per_part, to = pixels - from < per_part ? pixels : from + per_part;                 \
    const int mine = threadIdx.x / (BN / 4) * 8, of_mine = threadIdx.x % (BN / 4) * 4;                                \
    quad next[PIXELS / EVERY];                                                                                        \
    T more[PIXELS * BN / THREADS], sum[8][4] = {{0}};                                                                 \
    int now = 0, at = from, pixel = from + threadIdx.x / (BM / 4), z = pixel % ow, y = pixel / ow % oh;                     \
    const T *image = x + (long long)(pixel / (ow * oh)) * h * w * c;                                                  \
    FETCH_BACK(BM, BN)                                                                                                \
    LAY_DOWN_BACK(BM, BN)                                                                                             \
    for (at += PIXELS;; at += PIXELS) {                                                                               \
        if (at < to) { FETCH_BACK(BM, BN) }                                                                           \
        UNROLL                                                                                                        \
        for (int j = 0; j < PIXELS; j++) {                                                                            \
            T u[8], v[4];                                                                                             \
            for (int i = 0; i < 8; i += 4) *(quad *)(u + i) = *(quad *)&of_x[now][j][mine + i];                       \
            *(quad *)v = *(quad *)&of_g[now][j][of_mine];                                                             \
            for (int i = 0; i < 8; i++)                                                                               \
                for (int q = 0; q < 4; q++) sum[i][q] += u[i] * v[q];                                                 \
        }                                                                                                             \
        if (at >= to) break;                                                                                          \
        now = 1 - now;                                                                                                \
        LAY_DOWN_BACK(BM, BN)                                                                                         \
    }                                                                                                                 \
    for (int i = 0; i < 8; i++)                                                                                       \
        for (int q = 0; q < 4; q++)                                                                                   \
            if (top + mine + i < across && first + of_mine + q < columns)                                             \
                out[((long long)blockIdx.x * across + top + mine + i) * columns + first + of_mine + q] = sum[i][q];   \
}
CONVOLVE_BACK(convolve_back_64_64, 64, 64)
CONVOLVE_BACK(convolve_back_64_32, 64, 32)
CONVOLVE_BACK(convolve_back_32_32, 32, 32)

// ... and in the layout of the weights: weight (filters, c, taps) from (taps, c, filters).
KERNEL as_weights(T *weight, const T *in, int filters, int c, int taps, int n) {
    EACH(n)
    weight[i] = in[(i % taps * c + i / taps % c) * filters + i / (taps * c)];
}
