// What minidl computes on a GPU beside cuBLAS's matrix products, in the C that CUDA is written in.
//
// A kernel is a function that thousands of threads run at once. They come in blocks (blockIdx says which block, threadIdx
// which thread in it); the threads of a block share a little fast memory and can wait for each other (SYNC). What costs
// time is memory: threads that stand side by side should read numbers that lie side by side, and each number once.
//
// T is float or double. Arrays are contiguous; images lie as (N, H, W, C), the channel fastest, so that the pixels of a
// batch are the rows of a matrix (N*H*W, C). KERNEL, SYNC and BLOCK (threads in a block) come from launch.py. The text
// is plain C but for CUDA's own words, so that tests can run it on any machine with a C compiler.

typedef unsigned long long u64;

#define EACH(n) const int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= (n)) return;

// ---- element by element ---------------------------------------------------------------------------------------------

KERNEL relu(T *y, const T *x, int n) { EACH(n) y[i] = x[i] < 0 ? 0 : x[i]; }
KERNEL relu_back(T *dx, const T *g, const T *y, int n) { EACH(n) dx[i] = y[i] > 0 ? g[i] : 0; }
KERNEL tanh_(T *y, const T *x, int n) { EACH(n) y[i] = tanh(x[i]); }
KERNEL tanh_back(T *dx, const T *g, const T *y, int n) { EACH(n) dx[i] = g[i] * (1 - y[i] * y[i]); }
KERNEL sigmoid(T *y, const T *x, int n) { EACH(n) y[i] = (tanh(x[i] / 2) + 1) / 2; }
KERNEL sigmoid_back(T *dx, const T *g, const T *y, int n) { EACH(n) dx[i] = g[i] * y[i] * (1 - y[i]); }

// y (rows, columns) += b, then a ReLU where it is asked for.
KERNEL add_bias(T *y, const T *b, int columns, int with_relu, int n) {
    EACH(n)
    const T value = y[i] + b[i % columns];
    y[i] = with_relu && value < 0 ? 0 : value;
}

KERNEL times(T *y, const T *x, const T *factor, int n) { EACH(n) y[i] = x[i] * factor[0]; }

// out (count, b, a) from in (count, a, b): weights (out, C, kh*kw) as (out, kh*kw, C), and their gradient back.
KERNEL swap_axes(T *out, const T *in, int a, int b, int n) {
    EACH(n)
    out[i] = in[(i / (a * b) * a + i % a) * b + i / a % b];
}

// ---- sums over rows -------------------------------------------------------------------------------------------------

// The threads of a block stand `wide` columns side by side and `lanes` rows deep; each adds up every lanes-th row of the
// block's part of the matrix (rows, columns), and then they add up their sums in a tree. COUNT sums are made at once:
// VALUES sets v[0], v[1], ... from element i of the matrix. out (parts, COUNT, columns) has each part's; a second launch
// adds up the parts. All in one fixed order: the same numbers give the same bits.
#define LAYOUT                                                                                                        \
    const int wide = columns < 32 ? columns : 32, lanes = BLOCK / wide;                                               \
    const int lane = threadIdx.x / wide, column = blockIdx.x * wide + threadIdx.x % wide;                             \
    const int inside = lane < lanes && column < columns;                                                              \
    const int from = blockIdx.y * per_part, to = rows - from < per_part ? rows : from + per_part;

#define TREE(COUNT)                                                                                                   \
    SYNC                                                                                                              \
    for (int left = lanes; left > 1; left = (left + 1) / 2) {                                                         \
        const int half = (left + 1) / 2;                                                                              \
        if (lane < left - half)                                                                                       \
            for (int q = 0; q < COUNT; q++) sum[q][threadIdx.x] += sum[q][threadIdx.x + half * wide];                 \
        SYNC                                                                                                          \
    }

#define SUM_ROWS(S, COUNT, VALUES)                                                                                    \
    SHARED S sum[COUNT][BLOCK];                                                                                       \
    LAYOUT                                                                                                            \
    S total[COUNT] = {0};                                                                                             \
    if (inside)                                                                                                       \
        for (int r = from + lane; r < to; r += lanes) {                                                               \
            const int i = r * columns + column;                                                                       \
            S v[COUNT];                                                                                               \
            VALUES                                                                                                    \
            for (int q = 0; q < COUNT; q++) total[q] += v[q];                                                         \
        }                                                                                                             \
    for (int q = 0; q < COUNT; q++) sum[q][threadIdx.x] = total[q];                                                   \
    TREE(COUNT)                                                                                                       \
    if (lane == 0 && column < columns)                                                                                \
        for (int q = 0; q < COUNT; q++)                                                                               \
            out[(blockIdx.y * COUNT + q) * columns + column] = sum[q][threadIdx.x];

KERNEL sum_rows(T *out, const T *a, int rows, int columns, int per_part) { SUM_ROWS(T, 1, v[0] = a[i];) }

// The gradient through a ReLU, and its sums over the rows: the gradient of the bias before the ReLU.
KERNEL relu_back_sums(T *out, T *dx, const T *g, const T *y, int rows, int columns, int per_part) {
    SUM_ROWS(T, 1, v[0] = dx[i] = y[i] > 0 ? g[i] : 0;)
}

// a.b and c.d in double precision.
KERNEL dots(double *out, const T *a, const T *b, const T *c, const T *d, int rows, int columns, int per_part) {
    SUM_ROWS(double, 2, v[0] = (double)a[i] * b[i]; v[1] = (double)c[i] * d[i];)
}
KERNEL sum_rows_double(double *out, const double *a, int rows, int columns, int per_part) {
    SUM_ROWS(double, 1, v[0] = a[i];)
}

// g <- g min(1, most / (|g| + 1e-6)), from g.g.
KERNEL clip(T *g, const double *square, const double *at, double most, int n) {
    EACH(n)
    const double factor = (at ? at[0] : most) / (sqrt(square[0]) + 1e-6);
    if (factor < 1) g[i] *= (T)factor;
}

// ---- batch normalization --------------------------------------------------------------------------------------------

// Sums of x - x[0] and of its square, by channel: taken from a value of the channel, so that a large mean costs no digits.
KERNEL norm_sums(double *out, const T *x, int rows, int columns, int per_part) {
    SUM_ROWS(double, 2, v[0] = (double)x[i] - x[column]; v[1] = v[0] * v[0];)
}

// Every block first adds up the parts' sums for its own columns: sum[q][c] of all rows.
#define ALL_PARTS                                                                                                     \
    SHARED double sum[2][BLOCK];                                                                                      \
    LAYOUT                                                                                                            \
    for (int q = 0; q < 2; q++) {                                                                                     \
        double total = 0;                                                                                             \
        if (inside)                                                                                                   \
            for (int k = lane; k < parts; k += lanes) total += sums[(k * 2 + q) * columns + column];              \
        sum[q][threadIdx.x] = total;                                                                                  \
    }                                                                                                                 \
    TREE(2)                                                                                                           \
    const double first = sum[0][threadIdx.x % wide] / rows, second = sum[1][threadIdx.x % wide] / rows;

// y = weight (x - mean) / sqrt(var + eps) + bias. The first block of each column keeps mean and 1/sqrt(var + eps) for the
// way back, and moves the running statistics.
KERNEL normalize(T *y, T *mean, T *inv_std, T *running_mean, T *running_var, const T *x, const double *sums, const T *weight,
            const T *bias, int parts, double momentum, double eps, int rows, int columns, int per_part) {
    ALL_PARTS
    if (!inside) return;
    const double mu = x[column] + first, var = second - first * first > 0 ? second - first * first : 0;
    const double inv = 1 / sqrt(var + eps);
    if (blockIdx.y == 0 && lane == 0) {
        mean[column] = mu;
        inv_std[column] = inv;
        if (running_mean) {
            running_mean[column] += momentum * (mu - running_mean[column]);
            running_var[column] += momentum * (var * rows / (rows - 1) - running_var[column]);
        }
    }
    const T m = mu, s = inv, w = weight ? weight[column] : 1, b = bias ? bias[column] : 0;
    for (int r = from + lane; r < to; r += lanes) {
        const int i = r * columns + column;
        y[i] = (x[i] - m) * s * w + b;
    }
}

// The same with statistics that are known, in evaluation.
KERNEL norm_known(T *y, const T *x, const T *mean, const T *var, const T *weight, const T *bias, double eps, int columns,
                  int n) {
    EACH(n)
    const int c = i % columns;
    const T inv_std = 1 / sqrt(var[c] + (T)eps);
    y[i] = (x[i] - mean[c]) * inv_std * (weight ? weight[c] : 1) + (bias ? bias[c] : 0);
}

// Sums of g and of g x_hat, x_hat = (x - mean) / sqrt(var + eps): the gradients of bias and weight, once added up.
KERNEL norm_back_sums(double *out, const T *g, const T *x, const T *mean, const T *inv_std, int rows, int columns,
                      int per_part) {
    SUM_ROWS(double, 2, v[0] = g[i]; v[1] = (double)g[i] * ((x[i] - mean[column]) * inv_std[column]);)
}

KERNEL norm_back(T *dx, T *dweight, T *dbias, const T *g, const T *x, const double *sums, const T *mean, const T *inv_std,
                 const T *weight, int parts, int rows, int columns, int per_part) {
    ALL_PARTS
    if (!inside) return;
    if (blockIdx.y == 0 && lane == 0) {
        dbias[column] = first * rows;
        dweight[column] = second * rows;
    }
    const T m = mean[column], s = inv_std[column], scale = s * (weight ? weight[column] : 1), a = first, b = second;
    for (int r = from + lane; r < to; r += lanes) {
        const int i = r * columns + column;
        dx[i] = scale * (g[i] - a - (x[i] - m) * s * b);
    }
}

// ---- loss, accuracy -------------------------------------------------------------------------------------------------

// Mean loss over the rows of x (rows, classes), and its gradient d = (softmax - truth) / rows. One block; a thread takes
// every BLOCK-th row. A label out of range makes the loss NaN: the run will say so.
KERNEL cross_entropy(T *loss, T *d, const T *x, const long long *labels, int rows, int classes) {
    SHARED T sum[1][BLOCK];
    const int wide = 1, lanes = BLOCK, lane = threadIdx.x;
    T of_mine = 0;
    for (int r = lane; r < rows; r += BLOCK) {
        const T *row = x + r * classes;
        T *out = d + r * classes;
        const long long label = labels[r];
        T most = row[0], total = 0;
        for (int c = 1; c < classes; c++) most = row[c] > most ? row[c] : most;
        for (int c = 0; c < classes; c++) total += out[c] = exp(row[c] - most);
        for (int c = 0; c < classes; c++) out[c] = (out[c] / total - (c == label)) / rows;
        of_mine += 0 <= label && label < classes ? log(total) - (row[label] - most) : log((T)-1);
    }
    sum[0][lane] = of_mine;
    TREE(1)
    if (lane == 0) loss[0] = sum[0][0] / rows;
}

// How many rows have their largest value, the first of equal ones, at their label.
KERNEL count_right(long long *right, const T *x, const long long *labels, int rows, int classes) {
    SHARED long long sum[1][BLOCK];
    const int wide = 1, lanes = BLOCK, lane = threadIdx.x;
    long long of_mine = 0;
    for (int r = lane; r < rows; r += BLOCK) {
        const T *row = x + r * classes;
        int best = 0;
        for (int c = 1; c < classes; c++) best = row[c] > row[best] ? c : best;
        of_mine += best == labels[r];
    }
    sum[0][lane] = of_mine;
    TREE(1)
    if (lane == 0) right[0] = sum[0][0];
}

// ---- dropout --------------------------------------------------------------------------------------------------------

// Philox4x64-10 (Salmon et al. 2011), as NumPy has it: block b of step s is a function of (key, b, s) alone. A block is
// eight 32-bit numbers, and each becomes a number in [0, 1).
KERNEL dropout(T *y, const T *x, u64 key0, u64 key1, const u64 *at, u64 step, double p, double scale, int n) {
    SHARED float drawn[8][BLOCK];
    u64 c0 = 1 + blockIdx.x * (u64)BLOCK + threadIdx.x, c1 = 0, c2 = at ? at[0] : step, c3 = 0;
    for (int round = 0; round < 10; round++) {
        const u64 high0 = HIGH(0xD2E7470EE14C6C93ULL, c0), low0 = 0xD2E7470EE14C6C93ULL * c0;
        const u64 high2 = HIGH(0xCA5A826395121157ULL, c2), low2 = 0xCA5A826395121157ULL * c2;
        c0 = high2 ^ c1 ^ key0, c1 = low2, c2 = high0 ^ c3 ^ key1, c3 = low0;
        key0 += 0x9E3779B97F4A7C15ULL, key1 += 0xBB67AE8584CAA73BULL;
    }
    const u64 words[4] = {c0, c1, c2, c3};
    for (int k = 0; k < 8; k++) {
        const int e = threadIdx.x * 8 + k;  // of the elements of this block
        drawn[e / BLOCK][e % BLOCK] = (unsigned)(words[k / 2] >> (k % 2 * 32 + 8) & 0xFFFFFF) * (1.0f / 16777216.0f);
    }
    SYNC
    for (int k = 0; k < 8; k++) {
        const int i = (blockIdx.x * 8 + k) * BLOCK + threadIdx.x;
        if (i < n) y[i] = x[i] * (drawn[k][threadIdx.x] >= (float)p ? (T)scale : 0);
    }
}

// ---- images ---------------------------------------------------------------------------------------------------------

// A batch from the data set: image order[k], its bytes scaled to [0, 1], and its label.
KERNEL take(T *x, long long *y, const unsigned char *images, const unsigned char *labels, const long long *order,
            int pixels) {
    const long long k = blockIdx.x, from = order[k];
    for (int j = threadIdx.x; j < pixels; j += blockDim.x)
        x[k * pixels + j] = images[from * pixels + j] * (T)(1.0 / 255);
    if (threadIdx.x == 0) y[k] = labels[from];
}

// SIZES: images (., h, w, c), windows of kh x kw at every sh-th row and sw-th column from (-ph, -pw) on, (oh, ow) of them.
// A block works on one row of pixels; PIXEL is the thread's pixel in it, and threadIdx.x its channel.
#define SIZES int c, int h, int w, int oh, int ow, int kh, int kw, int sh, int sw, int ph, int pw
#define PIXEL (blockIdx.y * blockDim.y + threadIdx.y)

// Row p of the result (N*oh*ow, kh*kw*c) is the window at output pixel p; outside of the image are zeros.
KERNEL windows(T *rows, const T *x, SIZES) {
    const int n = blockIdx.x / oh, y = blockIdx.x % oh, z = PIXEL, left = z * sw - pw, across = kw * c;
    if (z >= ow) return;
    T *out = rows + ((long long)blockIdx.x * ow + z) * kh * across;
    const int from = left < 0 ? -left * c : 0, to = (w - left < kw ? w - left : kw) * c;
    for (int a = 0; a < kh; a++) {
        const int row = y * sh + a - ph;
        const T *in = x + (((long long)n * h + row) * w + left) * c;
        const int known = 0 <= row && row < h;
        for (int j = threadIdx.x; j < across; j += blockDim.x)
            out[a * across + j] = known && from <= j && j < to ? in[j] : 0;
    }
}

// The way back: each pixel adds up what it gets from the windows that see it. Window (y, z) has the pixel at (a, b).
#define FROM_WINDOWS(ADD)                                                                                             \
    const int n = blockIdx.x / h, row = blockIdx.x % h + ph, col = PIXEL + pw;                                        \
    if (PIXEL >= w) return;                                                                                           \
    for (int ch = threadIdx.x; ch < c; ch += blockDim.x) {                                                            \
        T total = 0;                                                                                                  \
        for (int y = row / sh < oh ? row / sh : oh - 1; y >= 0 && row - y * sh < kh; y--)                             \
            for (int z = col / sw < ow ? col / sw : ow - 1; z >= 0 && col - z * sw < kw; z--) {                       \
                const int a = row - y * sh, b = col - z * sw;                                                         \
                const long long at = ((long long)n * oh + y) * ow + z;                                                \
                ADD                                                                                                   \
            }                                                                                                         \
        dx[((long long)blockIdx.x * w + PIXEL) * c + ch] = total;                                                     \
    }

KERNEL pixels(T *dx, const T *rows, SIZES) { FROM_WINDOWS(total += rows[((at * kh + a) * kw + b) * c + ch];) }

// The largest value of each window, and the place in it of the first that is so large. On the way a bias (where there is
// one) and a ReLU (where it is asked for; then a window without a positive value has no winner, NONE).
#define NONE 65535
KERNEL max_pool(T *best, unsigned short *winner, const T *x, const T *bias, int with_relu, SIZES) {
    const int n = blockIdx.x / oh, top = blockIdx.x % oh * sh - ph, z = PIXEL, left = z * sw - pw;
    if (z >= ow) return;
    for (int ch = threadIdx.x; ch < c; ch += blockDim.x) {
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
    FROM_WINDOWS(if (winner[at * c + ch] == a * kw + b) total += g[at * c + ch];)
}

// g where there is a winner, summed over the rows: the gradient of the bias before a pooled ReLU.
KERNEL winners_sums(T *out, const T *g, const unsigned short *winner, int rows, int columns, int per_part) {
    SUM_ROWS(T, 1, v[0] = winner[i] == NONE ? 0 : g[i];)
}

KERNEL avg_pool(T *mean, const T *x, SIZES) {
    const int n = blockIdx.x / oh, top = blockIdx.x % oh * sh - ph, z = PIXEL, left = z * sw - pw;
    if (z >= ow) return;
    for (int ch = threadIdx.x; ch < c; ch += blockDim.x) {
        T total = 0;
        for (int a = top < 0 ? -top : 0; a < kh && top + a < h; a++)
            for (int b = left < 0 ? -left : 0; b < kw && left + b < w; b++)
                total += x[(((long long)n * h + top + a) * w + left + b) * c + ch];
        mean[((long long)blockIdx.x * ow + z) * c + ch] = total / (kh * kw);
    }
}

KERNEL avg_pool_back(T *dx, const T *g, SIZES) { FROM_WINDOWS(total += g[at * c + ch] / (kh * kw);) }

// ---- convolution with small windows ---------------------------------------------------------------------------------

// Where a window has few numbers, as on images of one channel, laying the windows out costs more than the products.
// Here each thread computes four filters at one pixel from the image itself. weight (filters, c, kh, kw) in the shared
// memory: number k of filter f at k * padded + f.
KERNEL convolve(T *out, const T *x, const T *weight, const T *bias, int with_relu, int filters, int image_rows, SIZES) {
    SHARED T shared[SMALL];
    const int across = c * kh * kw, padded = (filters + 3) / 4 * 4, threads = blockDim.x * blockDim.y;
    for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < across * padded; i += threads)
        shared[i] = i % padded < filters ? weight[i % padded * across + i / padded] : 0;
    SYNC
    for (int line = blockIdx.x; line < image_rows; line += gridDim.x) {
        const int n = line / oh, top = line % oh * sh - ph;
        for (int z = threadIdx.y; z < ow; z += blockDim.y)
            for (int f = threadIdx.x * 4; f < filters; f += blockDim.x * 4) {
                T s[4];
                for (int u = 0; u < 4; u++) s[u] = bias && f + u < filters ? bias[f + u] : 0;
                int k = 0;
                for (int ch = 0; ch < c; ch++)
                    for (int a = 0; a < kh; a++)
                        for (int b = 0; b < kw; b++, k++) {
                            const int row = top + a, col = z * sw - pw + b;
                            if (row < 0 || row >= h || col < 0 || col >= w) continue;
                            const T value = x[(((long long)n * h + row) * w + col) * c + ch];
                            for (int u = 0; u < 4; u++) s[u] += value * shared[k * padded + f + u];
                        }
                for (int u = 0; u < 4 && f + u < filters; u++)
                    out[((long long)line * ow + z) * filters + f + u] = with_relu && s[u] < 0 ? 0 : s[u];
            }
    }
}

// The gradient of its weights: out (blocks, filters * c*kh*kw) has each block's, from `lines` rows of pixels.
KERNEL convolve_back(T *out, const T *g, const T *x, int filters, int image_rows, int lines, SIZES) {
    const int across = c * kh * kw, to = image_rows - blockIdx.x * lines < lines ? image_rows : (blockIdx.x + 1) * lines;
    for (int i = threadIdx.x; i < filters * across; i += blockDim.x) {
        const int f = i % filters, k = i / filters, ch = k / (kh * kw), a = k / kw % kh, b = k % kw;
        T total = 0;
        for (int line = blockIdx.x * lines; line < to; line++) {
            const int row = line % oh * sh + a - ph;
            if (row < 0 || row >= h) continue;
            const T *in = x + ((long long)(line / oh) * h + row) * w * c + ch;
            const T *of = g + (long long)line * ow * filters + f;
            T of_line = 0;
            for (int z = 0; z < ow; z++) {
                const int col = z * sw + b - pw;
                if (0 <= col && col < w) of_line += of[z * filters] * in[col * c];
            }
            total += of_line;
        }
        out[(long long)blockIdx.x * filters * across + f * across + k] = total;
    }
}

// ---- the training loop ----------------------------------------------------------------------------------------------

// Keep the weights while all losses so far are finite; then judge this step's loss.
KERNEL keep_if(T *kept, const T *w, const unsigned char *good, int n) { EACH(n) if (good[0]) kept[i] = w[i]; }
KERNEL judge(unsigned char *good, const T *loss) {
    if (blockIdx.x + threadIdx.x == 0 && !(loss[0] - loss[0] == 0)) good[0] = 0;
}

// One number of 4 or 8 bytes to the place whose address lies at `at`: a captured step's result.
KERNEL deliver(const u64 *at, const void *number, int bytes, int offset) {
    if (blockIdx.x + threadIdx.x) return;
    char *to = (char *)at[0] + offset;
    if (bytes == 4) *(int *)to = *(const int *)number;
    else *(long long *)to = *(const long long *)number;
}
