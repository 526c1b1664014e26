/** A failure, as the API answers it. */
export class Refusal extends Error {
  constructor(status, code, detail, hint) {
    super(detail);
    Object.assign(this, { status, code, hint });
  }
}
