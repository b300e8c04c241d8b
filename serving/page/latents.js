// Latents drawn by the page, and the way between two of them.

/** Uniform numbers in (0, 1) that a whole number below 2^32 fixes (the generator known as mulberry32). */
function uniforms(seed) {
  let state = Math.imul(seed, 0x9e3779b1); // neighbouring seeds, far apart states
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
}

/** Standard normal numbers, each drawn again until it is within +-truncation (BigGAN's truncation trick). */
export function latent(seed, length, truncation) {
  const uniform = uniforms(seed);
  const drawn = [];
  while (drawn.length < length) {
    const z = Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
    if (Math.abs(z) <= truncation) drawn.push(z);
  }
  return drawn;
}

/** Spherical interpolation, both ends included. A straight line would pass through latents shorter than any that are drawn. */
export function way(start, end, steps) {
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const cosine = dot(start, end) / Math.max(Math.sqrt(dot(start, start) * dot(end, end)), 1e-12);
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  const sine = Math.sin(angle);
  return Array.from({ length: steps }, (_, i) => {
    const share = i / (steps - 1);
    const [a, b] = sine < 1e-6 ? [1 - share, share] : [Math.sin((1 - share) * angle) / sine, Math.sin(share * angle) / sine];
    return start.map((value, j) => a * value + b * end[j]);
  });
}
