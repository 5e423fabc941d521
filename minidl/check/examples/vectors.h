/* minidl's vectors in C: load a case, give outputs, save them. All that a program of your own needs.
 *
 *   load(path); Tensor *x = find("in.x.0"); double *y = give("out.y", 0, x->rank, x->shape); ... save(path); */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef struct { char name[64]; int rank; long shape[4], size; double *v; } Tensor;
static Tensor in[512], out[64];
static int n_in, n_out;
static Tensor *find(const char *name) {
    for (int i = 0; i < n_in; i++) if (!strcmp(in[i].name, name)) return in + i;
    return NULL;
}
static double *values(const char *name) { Tensor *t = find(name); return t ? t->v : NULL; }
static double option(const char *name) { double *v = values(name); return v ? v[0] : 0; }
static void load(const char *path) { /* 8 bytes of length, a JSON header, raw little-endian data */
    FILE *f = fopen(path, "rb");
    uint64_t length;
    if (!f || fread(&length, 8, 1, f) != 1 || length > 1 << 20) { fprintf(stderr, "%s: cannot be read\n", path); exit(2); }
    char *head = calloc(length + 1, 1), *p = head;
    if (fread(head, 1, length, f) != length) exit(2);
    while (n_in < 512 && (p = strstr(p, "\":{\"dtype\":\""))) {
        Tensor *t = in + n_in;
        char *q = p, kind[4] = {p[12], p[13], p[14], 0};
        while (q > head && q[-1] != '"') q--;
        snprintf(t->name, sizeof t->name, "%.*s", (int)(p - q), q);
        p = strstr(p, "\"shape\":[") + 9;
        for (t->rank = 0, t->size = 1; *p != ']' && t->rank < 4; p += *p == ',') t->size *= t->shape[t->rank++] = strtol(p, &p, 10);
        long begin = strtol(strstr(p, "offsets\":[") + 10, NULL, 10);
        fseek(f, 8 + (long)length + begin, SEEK_SET);
        t->v = calloc(t->size + 1, sizeof(double));
        for (long i = 0; i < t->size; i++) {
            float single = 0;
            if (!strcmp(kind, "F64")) { if (fread(t->v + i, 8, 1, f) != 1) exit(2); }
            else if (!strcmp(kind, "F32")) { if (fread(&single, 4, 1, f) != 1) exit(2); t->v[i] = single; }
        }
        n_in++;
    }
    fclose(f);
}
static double *give(const char *name, int step, int rank, const long *shape) {
    Tensor *t = out + n_out++;
    snprintf(t->name, sizeof t->name, step < 0 ? "%s" : "%s.%d", name, step);
    for (t->rank = rank, t->size = 1; rank-- > 0;) t->size *= t->shape[rank] = shape[rank];
    return t->v = calloc(t->size + 1, sizeof(double));
}
static void save(const char *path) {
    static char head[1 << 16];
    size_t used = 0;
    long offset = 0;
    for (int i = 0; i < n_out; offset += 8 * out[i++].size) {
        used += snprintf(head + used, sizeof head - used, "%s\"%s\":{\"dtype\":\"F64\",\"shape\":[", i ? "," : "{", out[i].name);
        for (int r = 0; r < out[i].rank; r++) used += snprintf(head + used, sizeof head - used, r ? ",%ld" : "%ld", out[i].shape[r]);
        used += snprintf(head + used, sizeof head - used, "],\"data_offsets\":[%ld,%ld]}", offset, offset + 8 * out[i].size);
    }
    head[used++] = '}';
    uint64_t length = used;
    FILE *f = fopen(path, "wb");
    if (!f) exit(2);
    fwrite(&length, 8, 1, f);
    fwrite(head, 1, used, f);
    for (int i = 0; i < n_out; i++) fwrite(out[i].v, 8, out[i].size, f);
    fclose(f);
}
