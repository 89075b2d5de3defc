/* Restore while it is played, with onnxruntime's C API: raw float32 at 48 kHz, one channel, stdin to stdout.
 *
 *   latentsr export live.onnx --head live
 *   cc live.c -o live -lonnxruntime -lm && ./live live.onnx 4000 < dull.f32 > wide.f32
 *
 * 4000 is where the recording ends, in Hz. A hop of 5 ms goes in and one comes out, two hops later: the recording as it
 * was, and what is made above the cutoff. The states of the network go back in as they came out.
 */
#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOP = 240, STATES = 4, INPUTS = 3 + STATES, OUTPUTS = 1 + STATES };
static const OrtApi *ort;

static void check(OrtStatus *status) {
    if (status == NULL) return;
    fprintf(stderr, "live: %s\n", ort->GetErrorMessage(status));
    exit(1);
}

static float gauss(void) { /* Box and Muller */
    double u = (rand() + 1.0) / (RAND_MAX + 1.0), v = rand() / (RAND_MAX + 1.0);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

static OrtValue *tensor(OrtMemoryInfo *memory, float *values, const int64_t *shape, size_t rank) {
    size_t count = 1;
    OrtValue *made = NULL;
    for (size_t i = 0; i < rank; i++) count *= (size_t)shape[i];
    check(ort->CreateTensorWithDataAsOrtValue(memory, values, count * sizeof(float), shape, rank,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &made));
    return made;
}

int main(int argc, char **argv) {
    const char *in[INPUTS] = {"wave", "noise", "cutoff_hz", "last", "memory", "held", "overlap"};
    const char *out[OUTPUTS] = {"made", "last_out", "memory_out", "held_out", "overlap_out"};
    const int64_t hop[2] = {1, HOP}, one[2] = {1, 1};
    static float wave[HOP], noise[HOP], late[2 * HOP], zeros[4 * 241 * 2];
    float cutoff_hz = argc == 3 ? (float)atof(argv[2]) : 0;
    if (cutoff_hz < 500) return fprintf(stderr, "usage: live MODEL.onnx CUTOFF_HZ < 48k.f32 > 48k.f32\n"), 2;

    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    OrtEnv *env; OrtSessionOptions *options; OrtSession *session; OrtMemoryInfo *memory;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "live", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1));
    check(ort->CreateSession(env, argv[1], options, &session));
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));

    /* The states are zeros at first; layers and width of the network's memory are the embedded model's. */
    const int64_t shapes[STATES][5] = {{2, 1, HOP}, {2, 1, 256}, {4, 1, 1, 241, 2}, {1, HOP}};
    const size_t ranks[STATES] = {3, 3, 5, 2};
    OrtValue *given[INPUTS], *made[OUTPUTS];
    given[0] = tensor(memory, wave, hop, 2), given[1] = tensor(memory, noise, hop, 2);
    given[2] = tensor(memory, &cutoff_hz, one, 2);
    for (int i = 0; i < STATES; i++) given[3 + i] = tensor(memory, zeros, shapes[i], ranks[i]);

    while (fread(wave, sizeof(float), HOP, stdin) == HOP) {
        float *added;
        for (int i = 0; i < HOP; i++) noise[i] = gauss();
        memset(made, 0, sizeof made);
        check(ort->Run(session, NULL, in, (const OrtValue *const *)given, INPUTS, out, OUTPUTS, made));
        check(ort->GetTensorMutableData(made[0], (void **)&added));
        for (int i = 0; i < HOP; i++) added[i] += late[i];
        if (fwrite(added, sizeof(float), HOP, stdout) != HOP) return 1;
        memcpy(late, late + HOP, sizeof wave), memcpy(late + HOP, wave, sizeof wave);
        ort->ReleaseValue(made[0]);
        for (int i = 0; i < STATES; i++) ort->ReleaseValue(given[3 + i]), given[3 + i] = made[1 + i];
    }
    return 0;
}
