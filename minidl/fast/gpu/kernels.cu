// What minidl computes on a GPU besides cuBLAS's matrix products, in CUDA C.
//
// A kernel is a function that thousands of threads run at once. They come in blocks (blockIdx is the index of the
// block, threadIdx that of the thread in it); the threads of a block have a little fast shared memory and can wait for
// each other (SYNC). Memory is the bottleneck: adjacent threads should read adjacent elements (coalesced), and each
// only once.
//
// T is float or double. Arrays are contiguous; images are stored as (N, H, W, C), channels last, so that the pixels of
// a batch are the rows of a matrix (N*H*W, C). KERNEL, SYNC and BLOCK (threads in a block) come from launch.py. The
// source is plain C except for CUDA's own keywords, so that tests can run it on any machine with a C compiler.

typedef unsigned long long u64;

#define EACH(n) const int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= (n)) return;

// ---- element by element ---------------------------------------------------------------------------------------------

KERNEL relu(T *y, const T *x, int n) { EACH(n) y[i] = x[i] < 0 ? 0 : x[i]; }
KERNEL relu_back(T *dx, const T *g, const T *y, int n) { EACH(n) dx[i] = y[i] > 0 ? g[i] : 0; }
KERNEL tanh_(T *y, const T *x, int n) { EACH(n) y[i] = tanh(x[i]); }
KERNEL tanh_back(T *dx, const T *g, const T *y, int n) { EACH(n) dx[i] = g[i] * (1 - y[i] * y[i]); }
KERNEL sigmoid(T *y, const T *x, int n) { EACH(n) y[i] = (tanh(x[i] / 2) + 1) / 2; }
KERNEL sigmoid_back(T *dx, const T *g, const T *y, int n) { EACH(n) dx[i] = g[i] * y[i] * (1 - y[i]); }
KERNEL leaky_relu(T *y, const T *x, double slope, int n) { EACH(n) y[i] = x[i] > 0 ? x[i] : (T)slope * x[i]; }
KERNEL leaky_relu_back(T *dx, const T *g, const T *y, double slope, int n) {
    EACH(n)
    dx[i] = y[i] > 0 ? g[i] : (T)slope * g[i];
}

// GELU, x Phi(x), and its slope, Phi(x) + x phi(x), which is all that backward needs.
KERNEL gelu(T *y, T *slope, const T *x, int n) {
    EACH(n)
    const T a = x[i], Phi = (1 + erf(a * (T)0.7071067811865476)) * (T)0.5;  // sqrt(1 / 2)
    y[i] = a * Phi;
    slope[i] = Phi + a * exp(-(a * a) * (T)0.5) * (T)0.3989422804014327;  // 1 / sqrt(2 pi)
}

// The same with (1 + tanh(c (x + k x^3))) / 2 for Phi.
KERNEL gelu_tanh(T *y, T *slope, const T *x, int n) {
    EACH(n)
    const T a = x[i], c = (T)0.7978845608028654, k = (T)0.044715;  // c = sqrt(2 / pi)
    const T t = tanh(c * (a + k * a * a * a)), Phi = (1 + t) * (T)0.5;
    y[i] = a * Phi;
    slope[i] = Phi + a * (T)0.5 * (1 - t * t) * c * (1 + 3 * k * a * a);
}

KERNEL multiply(T *y, const T *a, const T *b, int n) { EACH(n) y[i] = a[i] * b[i]; }

// y (rows, columns) += b, then a ReLU if with_relu.
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

// The threads of a block stand in `wide` columns and `lanes` rows; each sums every lanes-th row of the block's part of
// the matrix (rows, columns), and a tree reduction adds their sums. COUNT sums are computed at once: the last
// argument sets v[0], v[1], ... from element i of the matrix. out (parts, COUNT, columns) holds the sums of each part;
// a second launch adds the parts. The order is fixed: the same numbers give the same bits.
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

#define SUM_ROWS(S, COUNT, ...)                                                                                       \
    SHARED S sum[COUNT][BLOCK];                                                                                       \
    LAYOUT                                                                                                            \
    S total[COUNT] = {0};                                                                                             \
    if (inside)                                                                                                       \
        for (int r = from + lane; r < to; r += lanes) {                                                               \
            const int i = r * columns + column;                                                                       \
            S v[COUNT];                                                                                               \
            __VA_ARGS__                                                                                               \
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
KERNEL clip(T *g, const double *square, double most, int n) {
    EACH(n)
    const double factor = most / (sqrt(square[0]) + 1e-6);
    if (factor < 1) g[i] *= (T)factor;
}

// ---- batch normalization --------------------------------------------------------------------------------------------

// Sums of x - x[0] and of its square, by channel: subtracting a value of the channel keeps precision at a large mean.
KERNEL norm_sums(double *out, const T *x, int rows, int columns, int per_part) {
    SUM_ROWS(double, 2, v[0] = (double)x[i] - x[column]; v[1] = v[0] * v[0];)
}

// Every block first adds the parts' sums for its own columns: sum[q][c] over all rows.
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

// y = weight (x - mean) / sqrt(var + eps) + bias. The first block of each column stores mean and 1/sqrt(var + eps) for
// backward, and updates the running statistics.
KERNEL normalize(T *y, T *mean, T *inv_std, T *running_mean, T *running_var, const T *x, const double *sums, const T *weight,
            const T *bias, int with_relu, int parts, double momentum, double eps, int rows, int columns, int per_part) {
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
        const T value = (x[i] - m) * s * w + b;
        y[i] = with_relu && value < 0 ? 0 : value;
    }
}

// The same with given statistics, in evaluation.
KERNEL norm_known(T *y, const T *x, const T *mean, const T *var, const T *weight, const T *bias, double eps, int columns,
                  int n) {
    EACH(n)
    const int c = i % columns;
    const T inv_std = 1 / sqrt(var[c] + (T)eps);
    y[i] = (x[i] - mean[c]) * inv_std * (weight ? weight[c] : 1) + (bias ? bias[c] : 0);
}

// Sums of g and of g x_hat, x_hat = (x - mean) / sqrt(var + eps): the gradients of bias and weight, once added up.
// If a ReLU follows, g counts only where its input was positive.
#define BEFORE_RELU(w, b) (!with_relu || (x[i] - m) * s * (w) + (b) > 0 ? g[i] : 0)
KERNEL norm_back_sums(double *out, const T *g, const T *x, const T *mean, const T *inv_std, const T *weight, const T *bias,
                      int with_relu, int rows, int columns, int per_part) {
    SUM_ROWS(double, 2, const T m = mean[column], s = inv_std[column];
             v[0] = BEFORE_RELU(weight ? weight[column] : 1, bias ? bias[column] : 0); v[1] = v[0] * ((x[i] - m) * s);)
}

KERNEL norm_back(T *dx, T *dweight, T *dbias, const T *g, const T *x, const double *sums, const T *mean, const T *inv_std,
                 const T *weight, const T *bias, int with_relu, int parts, int rows, int columns, int per_part) {
    ALL_PARTS
    if (!inside) return;
    if (blockIdx.y == 0 && lane == 0) {
        dbias[column] = first * rows;
        dweight[column] = second * rows;
    }
    const T m = mean[column], s = inv_std[column], w = weight ? weight[column] : 1, b = bias ? bias[column] : 0;
    const T of_g = first, of_product = second;
    for (int r = from + lane; r < to; r += lanes) {
        const int i = r * columns + column;
        dx[i] = s * w * (BEFORE_RELU(w, b) - of_g - (x[i] - m) * s * of_product);
    }
}

// ---- loss, accuracy -------------------------------------------------------------------------------------------------

// Mean loss over the rows of x (rows, classes), and its gradient d = (softmax - one-hot labels) / rows. One block; a
// thread takes every BLOCK-th row. A label out of range makes the loss NaN, which the run reports.
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

// How many rows have their maximum, the first of equal ones, at their label.
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

// Philox4x64-10 (Salmon et al. 2011), the same as NumPy's: block b of step s is a function of (key, b, s) alone. A
// block is eight 32-bit numbers, and each becomes a number in [0, 1).
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

// ---- the training loop ----------------------------------------------------------------------------------------------

// A batch from the data set: image order[k], its bytes scaled to [0, 1], and its label.
KERNEL take(T *x, long long *y, const unsigned char *images, const unsigned char *labels, const long long *order,
            int pixels) {
    const long long k = blockIdx.x, from = order[k];
    for (int j = threadIdx.x; j < pixels; j += blockDim.x)
        x[k * pixels + j] = images[from * pixels + j] * (T)(1.0 / 255);
    if (threadIdx.x == 0) y[k] = labels[from];
}

// Keep the weights while all losses so far are finite; then check this step's loss.
KERNEL keep_if(T *kept, const T *w, const unsigned char *good, int n) { EACH(n) if (good[0]) kept[i] = w[i]; }
KERNEL judge(unsigned char *good, const T *loss) {
    if (blockIdx.x + threadIdx.x == 0 && !(loss[0] - loss[0] == 0)) good[0] = 0;
}

// Copy a batch, images and labels, from the addresses stored at `at` to where the captured step reads it.
KERNEL fetch(int *x, int *y, const u64 *at, int n, int m) {
    EACH(n + m)
    if (i < n) x[i] = ((const int *)at[0])[i];
    else y[i - n] = ((const int *)at[1])[i - n];
}

// Copy one number of 4 or 8 bytes to the address stored at `at`: a captured step's result.
KERNEL deliver(const u64 *at, const void *number, int bytes, int offset) {
    if (blockIdx.x + threadIdx.x) return;
    char *to = (char *)at[0] + offset;
    if (bytes == 4) *(int *)to = *(const int *)number;
    else *(long long *)to = *(const long long *)number;
}
