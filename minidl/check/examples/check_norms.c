/* Batch and mode normalization in C, checked by minidl's vectors.
 *
 *   cc -O1 -o check_norms check_norms.c -lm
 *   ./check_norms VECTOR.safetensors OUTPUT.safetensors        one call a case, or a loop over the exported folder
 *   python -m minidl.check verify VECTORS OUTPUTS
 *
 * -DBUG=1 ... 6 plants a bug, to see it named.  vectors.h reads and writes the files. */
#include <math.h>
#include "vectors.h"
#ifndef BUG
#define BUG 0
#endif

/* the layers: x is (N, C, L); with K = 1 and gates 1 mode normalization is batch normalization */
static double *zeros(long n) { return calloc(n + 1, sizeof(double)); }
static void layer(int step, int training, int is_mode, double *run1, double *run2) {
    char name[32];
    snprintf(name, sizeof name, "in.x.%d", step);
    Tensor *tx = find(name);
    snprintf(name, sizeof name, "in.dy.%d", step);
    double *x = tx->v, *dy = values(name), *weight = values("param.weight"), *bias = values("param.bias");
    double *pw = values("param.gate.weight"), *pb = values("param.gate.bias"), eps = option("option.eps"), mom = option("option.momentum");
    long N = tx->shape[0], C = tx->shape[1], L = tx->size / N / C, K = is_mode ? (long)option("option.num_modes") : 1, kc[2] = {K, C};
    double *m = zeros(N * C), *q = zeros(N * C), *lg = zeros(N * K), *g = zeros(N * K), *w = zeros(N * K), *mu = zeros(K * C), *r = zeros(K * C);
    const char *P = training ? "out" : "eval";
    char label[32];
#define OUT(what, rank, shape) (snprintf(label, sizeof label, "%s." what, P), give(label, step, rank, shape))
#define PER_MODE(p) (p[find("param.weight")->rank == 2 ? k * C + c : c])
#define EACH for (long n = 0; n < N; n++) for (long k = 0; k < K; k++) for (long c = 0; c < C; c++)
#define PIXELS for (long i = (n * C + c) * L, j = 0; j < L; i++, j++)
    for (long n = 0; n < N; n++) for (long c = 0; c < C; c++) { PIXELS m[n * C + c] += x[i] / L; PIXELS q[n * C + c] += x[i] * x[i] / L; }
    for (long n = 0; n < N; n++) { /* log of the gates: log softmax of Psi m, shifted */
        double top = -INFINITY, sum = 0;
        for (long k = 0; k < K; k++) { lg[n * K + k] = pb && BUG != 5 ? pb[k] : 0; for (long c = 0; pw && c < C; c++) lg[n * K + k] += pw[k * C + c] * m[n * C + c]; top = fmax(top, lg[n * K + k]); if (isnan(lg[n * K + k])) top = NAN; }
        for (long k = 0; k < K; k++) sum += exp(lg[n * K + k] - top);
        for (long k = 0; k < K; k++) { g[n * K + k] = exp(lg[n * K + k] - top) / sum; lg[n * K + k] -= top + log(sum); }
    }
    for (long k = 0; k < K; k++) { /* w = g / N_k as a softmax over the batch: no 0/0 */
        double top = -INFINITY, sum = 0;
        for (long n = 0; n < N; n++) top = isnan(lg[n * K + k]) ? NAN : fmax(top, lg[n * K + k]);
        for (long n = 0; n < N; n++) sum += exp(lg[n * K + k] - top);
        for (long n = 0; n < N; n++) w[n * K + k] = exp(lg[n * K + k] - top) / sum;
    }
    if (training) {
        EACH mu[k * C + c] += w[n * K + k] * m[n * C + c];
        EACH { double v = 0; PIXELS v += (x[i] - mu[k * C + c]) * (x[i] - mu[k * C + c]) / L; r[k * C + c] += w[n * K + k] * v; }
        for (long i = 0; i < K * C; i++) {
            double n = N * L, second = 0;
            for (long s = 0; s < N; s++) second += w[s * K + i / C] * q[s * C + i % C];
            if (BUG == 1) mom = 1 - option("option.momentum");
            run1[i] = (1 - mom) * run1[i] + mom * mu[i];
            run2[i] = (1 - mom) * run2[i] + mom * (is_mode ? second : BUG == 2 ? r[i] : r[i] * n / fmax(n - 1, 1));
        }
    } else for (long i = 0; i < K * C; i++) { mu[i] = run1[i]; r[i] = is_mode ? fmax(run2[i] - run1[i] * run1[i], 0) : run2[i]; }
    for (long i = 0; i < K * C; i++) r[i] = BUG == 3 ? 1 / (sqrt(r[i]) + eps) : 1 / sqrt(r[i] + eps);
    double *y = OUT("y", tx->rank, tx->shape);
    EACH PIXELS y[i] += g[n * K + k] * (PER_MODE(weight) * (x[i] - mu[k * C + c]) * r[k * C + c] + PER_MODE(bias));
    if (!dy) return;
    Tensor *tw = find("param.weight");
    double *dx = OUT("dx", tx->rank, tx->shape), *dweight = OUT("dweight", tw->rank, tw->shape), *dbias = OUT("dbias", tw->rank, tw->shape);
    double *dlg = zeros(N * K), *dw = zeros(N * K), *dmu = zeros(K * C), *dvar = zeros(K * C), *dm = zeros(N * C);
    EACH PIXELS {
        double xhat = (x[i] - mu[k * C + c]) * r[k * C + c], G = g[n * K + k], dxhat = G * dy[i] * PER_MODE(weight);
        PER_MODE(dweight) += G * dy[i] * xhat;
        PER_MODE(dbias) += G * dy[i];
        dlg[n * K + k] += G * dy[i] * (PER_MODE(weight) * xhat + (tw->rank == 2 ? PER_MODE(bias) : 0));
        dx[i] += dxhat * r[k * C + c];
        if (BUG != 4) dmu[k * C + c] -= dxhat * r[k * C + c];
        dvar[k * C + c] -= dxhat * xhat * r[k * C + c] * r[k * C + c] / 2;
    }
    if (training || BUG == 6) {
        EACH {
            double v = 0;
            PIXELS { double d = x[i] - mu[k * C + c]; v += d * d / L; dx[i] += dvar[k * C + c] * w[n * K + k] * 2 * d / L; }
            dw[n * K + k] += dvar[k * C + c] * v + dmu[k * C + c] * m[n * C + c];
            dm[n * C + c] += w[n * K + k] * dmu[k * C + c];
        }
        for (long k = 0; k < K; k++) {
            double mean = 0;
            for (long n = 0; n < N; n++) mean += w[n * K + k] * dw[n * K + k];
            for (long n = 0; n < N; n++) dlg[n * K + k] += w[n * K + k] * (dw[n * K + k] - mean);
        }
    }
    double *dpw = is_mode ? OUT("dgate.weight", 2, kc) : NULL, *dpb = is_mode ? OUT("dgate.bias", 1, kc) : NULL;
    for (long n = 0; is_mode && n < N; n++) {
        double sum = 0;
        for (long k = 0; k < K; k++) sum += dlg[n * K + k];
        for (long k = 0; k < K; k++) {
            double dz = dlg[n * K + k] - g[n * K + k] * sum;
            dpb[k] += dz;
            for (long c = 0; c < C; c++) { dpw[k * C + c] += dz * m[n * C + c]; dm[n * C + c] += dz * pw[k * C + c]; }
        }
    }
    for (long n = 0; n < N; n++) for (long c = 0; c < C; c++) PIXELS dx[i] += dm[n * C + c] / L;
}
int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: check_norms VECTOR OUTPUT\n"); return 2; }
    load(argv[1]);
    Tensor *gates = find("param.gate.weight"), *moves = find("option.training"), *shape = gates ? gates : find("param.weight");
    const char *names[2] = {"running_mean", gates ? "running_mean_square" : "running_var"};
    double *run[2];
    for (int s = 0; s < 2; s++) { /* a layer that has seen nothing starts at 0 and 1 */
        char name[64];
        snprintf(name, sizeof name, "state.0.%s", names[s]);
        run[s] = zeros(shape->size);
        for (long i = 0; i < shape->size; i++) run[s][i] = find(name) ? values(name)[i] : s;
    }
    for (int t = 0; t < moves->size; t++) {
        layer(t, moves->v[t] > 0, gates != NULL, run[0], run[1]);
        for (int s = 0; s < 2; s++) {
            char name[64];
            snprintf(name, sizeof name, "state.%d.%s", t + 1, names[s]);
            memcpy(give(name, -1, shape->rank, shape->shape), run[s], shape->size * sizeof(double));
        }
    }
    save(argv[2]);
    return 0;
}
